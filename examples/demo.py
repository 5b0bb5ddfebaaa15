"""The main job from end to end, offline: documents from a file into Milvus, and back as search results.

    python examples/demo.py WORK_FOLDER

Runs trivec's own commands on the bundled demonstration model `nano` and forty small documents in ten languages. nano is
small and trained on little; for real results use `--model BAAI/bge-m3`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

DOCUMENTS = files("trivec").joinpath("data/demo/documents.jsonl")
# The last one asks in English for a document in Chinese.
QUESTIONS = [
    "When is the spring tide highest?",
    "Wie lang ist das Pendel der Uhr?",
    "大熊猫每天吃多少竹子？",
    "कहाँ हुआ शतरंज का जन्म?",
    "Was the compass invented in China?",
]


def trivec(*arguments: str) -> None:
    """Show a command as a user would type it, then run it."""
    print(f"\n$ trivec {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "trivec", *arguments], check=True)


def main() -> None:
    """Index the demo's documents, then ask questions in several languages."""
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    print(
        "This demo runs on `nano`, a small demonstration model that comes with trivec. It is not BGE-M3: "
        "for real results use --model BAAI/bge-m3"
    )
    database = ["--model", "nano", "--uri", str(work / "milvus.db"), "--collection", "demo"]
    trivec("index", str(DOCUMENTS), *database)
    for question in QUESTIONS:
        trivec("search", question, "--mode", "hybrid", "--rerank", "colbert", "--limit", "2", *database)
    print(f"\nThe same in a browser: trivec serve nano --uri {work / 'milvus.db'} --collection demo   (make page)")


if __name__ == "__main__":
    main()
