"""The main job from end to end: documents from a file into Milvus, and back as search results, by trivec's commands.

    python examples/demo.py WORK_FOLDER

The real BGE-M3 weights are 2.3 GB, so the demo makes itself a tiny model with random weights first. Random weights know
no meaning: matching words are found all the same, by the sparse vectors. For real results use `--model BAAI/bge-m3`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from random_checkpoint import write_random_checkpoint

DOCUMENTS = files("trivec").joinpath("data/demo/documents.jsonl")
QUESTIONS = ["When is the spring tide highest?", "Wie lang ist das Pendel der Uhr?", "Сколько машин на льду озера?"]


def trivec(*arguments: str) -> None:
    """Show a command as a user would type it, then run it."""
    print(f"\n$ trivec {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "trivec", *arguments], check=True)


def main() -> None:
    """Index the demo's documents, then ask questions in three languages."""
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    print(
        "NOTE: this demo runs on a tiny model with RANDOM weights, made on the spot: its scores mean nothing, "
        "though shared words are found. With the real weights: --model BAAI/bge-m3"
    )
    model = write_random_checkpoint(work / "random-model")
    database = ["--model", str(model), "--uri", str(work / "milvus.db"), "--collection", "demo"]
    trivec("index", str(DOCUMENTS), *database)
    for question in QUESTIONS:
        trivec("search", question, "--mode", "hybrid", "--limit", "3", *database)


if __name__ == "__main__":
    main()
