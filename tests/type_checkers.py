"""What mypy and pyright, each at its strictest, say of code that uses trivec as an environment has it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKERS = ("mypy", "pyright")
_FAULT = re.compile(r"(?P<name>\w+\.py):(?P<line>\d+)\S* (?:- )?error: (?P<text>.*)")


def faults(checker: str, python: str | Path, work: Path, *files: Path) -> list[tuple[str, int, str]]:
    """Return name of the file, line and message of every error.

    Args:
        checker: Out of `CHECKERS`.
        python: The environment's interpreter.
        work: A folder to work in, where no configuration lies.
        files: Code of a user; the comment `# pyright: strict` is what makes pyright strict.
    """
    options = {
        "mypy": ["--strict", "--no-error-summary", "--cache-dir", work / "mypy", "--python-executable", python],
        "pyright": ["--pythonpath", python],
    }
    command = [sys.executable, "-m", checker, *options[checker], *files]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [(each["name"], int(each["line"]), each["text"]) for each in _FAULT.finditer(done.stdout)]
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    return found
