"""The weights that everybody computes with: a seeded random checkpoint, and the peers' conversions of it.

Both are made once and kept under `build/benchmarks`. Knows files; what is in them is `tools/random_checkpoint` and
`conversion`'s business.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import environment
from conversion import NEEDS

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "benchmarks"


class ConversionError(Exception):
    """A conversion that did not work; says which and why."""


_failed: dict[str, ConversionError] = {}


def checkpoint(options: argparse.Namespace) -> Path:
    """The folder of weights: the one given, or a random one of the size asked for, written when first needed."""
    if options.checkpoint is not None:
        return options.checkpoint.resolve()
    folder = BUILD / f"checkpoint-{options.size}"
    finished = folder / "finished"
    if not finished.exists():
        sys.path.append(str(ROOT / "tools"))
        from random_checkpoint import FULL_SIZE, TINY, write_random_checkpoint

        print(f"writing the {options.size} random checkpoint, once", file=sys.stderr)
        # As many layers as the full size has, because bge-m3-lite's tools accept no other number.
        tiny = TINY.__class__(**(vars(TINY) | {"num_layers": FULL_SIZE.num_layers}))
        config = FULL_SIZE if options.size == "full" else tiny
        write_random_checkpoint(folder, config, tokenizer=options.tokenizer)
        finished.touch()
    return folder


def config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json."""
    return json.loads((folder / "config.json").read_text())


def converted(folder: Path) -> Path:
    """Where the conversions of a checkpoint lie."""
    weights = folder / "model.safetensors"
    state = weights.stat()
    key = hashlib.sha256(f"{weights.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:12]
    return BUILD / f"converted-{key}"


def convert(folder: Path, step: str) -> None:
    """Run a step of `conversion` and those it needs, unless they were done before.

    Raises:
        ConversionError: A step failed; a failed one is tried again by the next benchmark.
    """
    if step in _failed:
        raise _failed[step]
    for needed in NEEDS[step]:
        convert(folder, needed)
    target = converted(folder)
    finished = target / f"{step}.finished"
    if finished.exists():
        return
    reason = environment.missing("onnx")
    if reason:
        raise ConversionError(reason)
    target.mkdir(parents=True, exist_ok=True)
    print(f"converting: {step}, once", file=sys.stderr)
    command = [environment.python_of("onnx"), Path(__file__).with_name("conversion.py"), step, folder, target]
    done = subprocess.run(
        list(map(str, command)), check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        (target / f"{step}.log").write_text(done.stderr)
        _failed[step] = ConversionError(f"conversion {step} failed: {lines[-1]}")
        raise _failed[step]
    finished.touch()
