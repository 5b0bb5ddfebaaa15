"""A corpus, and the command that encodes it, in a process of its own as users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def write_corpus(path: Path, count: int) -> None:
    lines = (json.dumps({"id": f"d{i}", "text": f"text number {i} of a boat. " * (i % 7 + 3)}) for i in range(count))
    path.write_text("\n".join(lines), encoding="utf-8")


def encode(*arguments: object) -> str:
    """Run `trivec encode` with nano on one core and return what it said."""
    command = [sys.executable, "-m", "trivec", "encode", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout
