"""Loads a `tokenizer.json`, first in a child process if its content is new here.

The tokenizers library trusts its files: damage ends in a panic that no `except Exception` catches, and a hostile one in
a loop without end or a crash of the process. So a file goes through a trial first (`tokenizer_trial`), under limits of
time and memory; that it passed is remembered by its content. Knows nothing about what the tokens mean.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trivec.checkpoint import tokenizer_trial
from trivec.checkpoint.digests import default_digest_folder
from trivec.checkpoint.model_files import read_whole
from trivec.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LIMIT = 100_000_000  # bytes; BGE-M3's has 17 million
# The trial of BGE-M3's takes a second or two.
_CPU_SECONDS = 30
_WALL_SECONDS = 120
_passed_in_this_process: set[str] = set()
_logger = logging.getLogger(__name__)


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer in Hugging Face `tokenizers` format.

    Raises:
        CheckpointError: The file cannot be read, is no tokenizer, or fails, hangs or crashes when it is used.
    """
    import tokenizers

    content = read_whole(path, _LIMIT)
    name = f"tokenizer-{hashlib.sha256(content).hexdigest()}-{tokenizers.__version__}"
    memory = default_digest_folder()
    note = None if memory is None else memory / f"{name}.json"
    if name not in _passed_in_this_process and (note is None or not note.is_file()):
        failure = _trial(content)
        if failure is not None:
            raise CheckpointError(f"{path} is no tokenizer that can be used ({failure:.300}): download it again")
        _passed_in_this_process.add(name)
        if note is not None:
            with suppress(OSError):
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise CheckpointError(f"{path} is no tokenizer that can be used ({error!s:.300}): download it again") from error


def is_panic(error: BaseException) -> bool:
    """Whether the Rust side of the tokenizers library gave up; its panics derive from BaseException."""
    return type(error).__name__ == "PanicException"


def _trial(content: bytes) -> str | None:
    """Return what is wrong with a tokenizer, or None. Where no child process can be had, that is not looked into."""
    program = sys.executable or ""
    if getattr(sys, "frozen", False) or not Path(program).name.lower().startswith(("python", "pypy")):
        return None  # inside another program, which would be started instead
    command = [program, "-I", "-S", tokenizer_trial.__file__, json.dumps(sys.path), str(_CPU_SECONDS)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(  # noqa: S603 -- this very Python, with a program of ours
            command, input=content, capture_output=True, timeout=_WALL_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_WALL_SECONDS} seconds"
    except OSError as error:
        _logger.info("the tokenizer is loaded without a trial (%s)", error)
        return None
    begun, _, outcome = done.stdout.decode("utf-8", "replace").partition("\n")
    if begun.strip() != tokenizer_trial.BEGUN:
        _logger.info("the tokenizer is loaded without a trial (%s)", done.stderr.decode("utf-8", "replace")[-300:])
        return None
    try:
        failure = json.loads(outcome)
    except ValueError:
        return f"loading it took more than {_CPU_SECONDS} seconds or too much memory, or crashed"
    return None if failure is None else str(failure)
