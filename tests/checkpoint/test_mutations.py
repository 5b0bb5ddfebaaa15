"""Hundreds of damaged copies of a model: each is refused in one line, or gives vectors that are right for what it says.

Damage of every file: flipped bits, truncation, JSON with parts removed, doubled and replaced, values of other types and
sizes. All of it is seeded, so that a failure comes again.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES

TEXTS = [texts[0] for texts in SENTENCES.values()]
# Loads each model that a line of stdin names, and answers with a line of JSON: an error's class and text, or vectors.
LOADER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import numpy as np
from trivec import M3Model
from trivec.errors import TrivecError

texts = json.loads(sys.argv[2])
for line in sys.stdin:
    answer = {}
    try:
        with M3Model.load(line.rstrip("\\n"), precision="fp32") as model:
            vectors = model.encode(texts, return_colbert_vecs=True, show_progress=False)
            answer["dense"] = vectors.dense.tolist()
            answer["sparse"] = vectors.sparse.toarray().astype(float).ravel().tolist()
            answer["colbert"] = np.concatenate(vectors.colbert_vecs).ravel().tolist()
    except TrivecError as error:
        answer = {"refused": str(error)}
    except BaseException as error:
        answer = {"escaped": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""
SEED = 0
VALUES = (None, True, False, 0, 1, -1, 2.7, "7", "", [], {}, 10**9, 10**30, 1e30, 1e-30, "x" * 10**5, [[[]]], "\ud800")


class Loader:
    """A process that loads models; a crash or a hang of it is seen, and it is started again."""

    def __init__(self) -> None:
        self._process = self._start()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LOADER, json.dumps(sys.path), json.dumps(TEXTS)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def load(self, folder: Path) -> dict[str, Any]:
        """Return what happened; a process that says nothing for minutes is killed, which shows as its end."""
        clock = threading.Timer(300, self._process.kill)
        clock.start()
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        clock.cancel()
        if not line:
            code = self._process.wait()
            self._process = self._start()
            return {"escaped": f"the process crashed or was killed after 300 seconds (code {code})"}
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def flip_bits(content: bytes, generator: random.Random) -> bytes:
    flipped = bytearray(content)
    # Half of them where the structure lies: the ends of a file.
    for _ in range(generator.choice((1, 1, 3))):
        edge = generator.choice((len(content), len(content), min(len(content), 600)))
        place = generator.randrange(edge)
        flipped[place if generator.random() < 0.5 else len(content) - 1 - place] ^= 1 << generator.randrange(8)
    return bytes(flipped)


def cut(content: bytes, generator: random.Random) -> bytes:
    kept = content[: int(len(content) * generator.random())]
    return kept if generator.random() < 0.7 else kept + bytes(len(content) - len(kept))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to what may be changed; of a long list, its first items."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed_json(content: dict[str, Any], generator: random.Random) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    *path, last = generator.choice(list(places(changed)))
    inside = changed
    for key in path:
        inside = inside[key]
    match generator.choice(("remove", "value", "value", "value", "other", "double", "nest")):
        case "remove":
            del inside[last]
        case "value":
            inside[last] = copy.deepcopy(generator.choice(VALUES))
        case "other":
            inside[last] = copy.deepcopy(inside[generator.choice(list(inside) if isinstance(inside, dict) else [0])])
        case "double":
            inside[last] = [inside[last], inside[last]]
        case "nest":
            inside[last] = {str(last): inside[last]}
    return changed


def change_json(content: bytes, generator: random.Random) -> bytes:
    return json.dumps(changed_json(json.loads(content), generator)).encode()


def change_header(content: bytes, generator: random.Random) -> bytes:
    """Of a safetensors file: its header as JSON, with the length before it set right."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(changed_json(json.loads(content[8 : 8 + size]), generator)).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


Mutation = Callable[[bytes, random.Random], bytes]
# For each file, what is done to it and how many times.
MUTATIONS: list[tuple[str, str, Mutation, int]] = [
    ("model.safetensors", "config.json", change_json, 120),
    ("model.safetensors", "config.json", flip_bits, 40),
    ("model.safetensors", "config.json", cut, 10),
    ("model.safetensors", "tokenizer.json", change_json, 90),
    ("model.safetensors", "tokenizer.json", flip_bits, 60),
    ("model.safetensors", "tokenizer.json", cut, 10),
    ("model.safetensors", "model.safetensors", change_header, 60),
    ("model.safetensors", "model.safetensors", flip_bits, 50),
    ("model.safetensors", "model.safetensors", cut, 10),
    ("model.safetensors", "sparse_linear.pt", flip_bits, 40),
    ("model.safetensors", "colbert_linear.pt", flip_bits, 20),
    ("model.safetensors", "colbert_linear.pt", cut, 10),
    ("pytorch_model.bin", "pytorch_model.bin", flip_bits, 40),
    ("pytorch_model.bin", "pytorch_model.bin", cut, 10),
    ("model.safetensors.index.json", "model.safetensors.index.json", change_json, 20),
]


def what_is_wrong(answer: dict[str, Any], good: dict[str, Any], file: str, mutation: Mutation) -> str | None:
    if "dense" not in answer:
        message = answer.get("refused", "")
        fine = "refused" in answer and "\n" not in message and len(message) < 1000
        return None if fine else answer.get("escaped", f"an error of {len(message)} characters: {message:.300}")
    for name in ("dense", "sparse", "colbert"):
        if not np.isfinite(answer[name]).all():
            return f"{name} is not finite"
    if np.abs(np.linalg.norm(answer["dense"], axis=1) - 1).max() > 1e-5:
        return "dense vectors have not length 1"
    # Other weights or pieces make another model, which nothing can tell from a good one.
    if file == "tokenizer.json" or (file, mutation) == ("model.safetensors", flip_bits):
        return None
    for name in ("dense", "sparse", "colbert"):
        if not np.allclose(answer[name], good[name], atol=1e-4):
            return f"other {name} vectors than the model's"
    return None


@pytest.mark.slow
def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    generator = random.Random(SEED)
    originals = {weights: write_random_checkpoint(tmp_path / weights, weights=weights) for weights, *_ in MUTATIONS}
    loader = Loader()
    good = {weights: loader.load(folder) for weights, folder in originals.items()}
    assert all("dense" in answer for answer in good.values())
    folder = tmp_path / "mutated"
    faults, outcomes = [], Counter()
    for weights, file, mutation, count in MUTATIONS:
        for number in range(count):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(originals[weights], folder)
            content = (folder / file).read_bytes()
            mutated = mutation(content, generator)
            (folder / file).write_bytes(mutated)
            answer = loader.load(folder)
            wrong = what_is_wrong(answer, good[weights], file, mutation)
            outcomes[file, mutation.__name__, "refused" if "refused" in answer else "taken"] += 1
            if wrong is not None:
                faults.append(f"{file}, {mutation.__name__} {number}: {wrong}")
    loader.close()
    sys.stdout.write("".join(f"{outcome}: {count}\n" for outcome, count in sorted(outcomes.items())))
    assert sum(outcomes.values()) >= 500
    assert not faults, "\n".join(faults)
    # That anything was damaged at all:
    for weights, file, mutation, _count in MUTATIONS:
        assert outcomes[file, mutation.__name__, "refused"] > 0, (weights, file, mutation)
