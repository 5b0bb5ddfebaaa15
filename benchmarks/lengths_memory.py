"""Does memory grow with each length of text that was not met before? Resident memory against the number of lengths.

An engine that compiles for shapes keeps something for each; one text a call makes every length a shape. What counts is
the growth after the first rounds: allocators and caches fill up at first. Texts come in a shuffled order, so that the
longest is met early and a longer text does not pass for growth. Run it a second time over the same lengths (`--again`)
to tell what is kept for lengths from what grows with any call.

    python benchmarks/lengths_memory.py --lengths 1000 --longest 1000      # full width, 2 layers
    python benchmarks/lengths_memory.py --layers 24 --lengths 300 --longest 300
    python benchmarks/lengths_memory.py --engine native --precision int8
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import sys
from pathlib import Path

import numpy as np

from trivec import M3Model
from trivec.engines import Heads

ROOT = Path(__file__).parents[1]
STEPS = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--engine", default="auto")
    options.add_argument("--precision", default="fp32")
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--lengths", type=int, default=1000, help="how many")
    options.add_argument("--longest", type=int, default=1000, help="tokens")
    options.add_argument("--again", action="store_true", help="go over the same lengths twice")
    arguments = options.parse_args()
    model = M3Model.load(checkpoint(arguments.layers), engine=arguments.engine, precision=arguments.precision)
    draw = np.random.default_rng(0)
    lengths = draw.permutation(np.linspace(3, arguments.longest, arguments.lengths).astype(int))
    encode(model, [arguments.longest, 3], draw)  # what the longest text needs
    measured = [(0, resident())]
    for part in np.array_split(np.concatenate([lengths, lengths]) if arguments.again else lengths, STEPS):
        encode(model, part, draw)
        gc.collect()
        measured.append((measured[-1][0] + len(part), resident()))
        print(f"{measured[-1][0]:6} texts  {measured[-1][1]:8.1f} MB", file=sys.stderr)
    half = measured[STEPS // 2]
    growth = (measured[-1][1] - half[1]) / (measured[-1][0] - half[0])
    print(
        json.dumps(
            {
                "benchmark": "lengths_memory",
                "engine": type(model._engine).__name__,
                "precision": model.precision,
                "layers": arguments.layers,
                "distinct_lengths": len(set(lengths.tolist())),
                "resident_mb": [round(megabytes, 1) for _, megabytes in measured],
                "growth_mb_a_text_in_the_second_half": round(growth, 4),
            }
        )
    )


def checkpoint(layers: int) -> Path:
    """A random checkpoint as wide as the full size, of some layers and few words."""
    folder = ROOT / "build" / "benchmarks" / f"checkpoint-{layers}-layers"
    if not (folder / "finished").exists():
        sys.path.append(str(ROOT / "tools"))
        from random_checkpoint import FULL_SIZE, write_random_checkpoint

        write_random_checkpoint(folder, dataclasses.replace(FULL_SIZE, num_layers=layers, vocab_size=0))
        (folder / "finished").touch()
    return folder


def encode(model: M3Model, lengths: list[int], draw: np.random.Generator) -> None:
    """One text a call, straight through the engine: ids are drawn, since words hardly come in exact lengths."""
    for length in lengths:
        ids = draw.integers(5, model.config.vocab_size, length).astype(np.int32)
        for _ in model._engine.encode([ids], Heads(), 4096):
            pass


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
