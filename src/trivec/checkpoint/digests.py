"""SHA-256 of files, and the like, remembered on disk for as long as a file's inode says that it has not changed.

Hashing 2.3 GB takes seconds, looking at an inode takes none. Where nothing can be kept on disk, a process remembers
what it hashed itself. Knows nothing about what the files hold.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trivec.support.cache_folder import default_cache_folder

# Longer than the steps in which today's Linux file systems advance their clock: there, a file that changes after this
# long shows it. A file system with a coarser clock (FAT: 2 s, some network disks: 1 s) may hide a change of equal size.
_CLOCK_STEP = 0.02  # seconds
_logger = logging.getLogger(__name__)
_of_this_process: dict[tuple[str, Path], tuple[dict[str, int], str]] = {}


def default_digest_folder() -> Path | None:
    """Return where digests are remembered by default; None if that takes a home folder, and there is none."""
    try:
        return default_cache_folder() / "converted" / "digests"
    except FileNotFoundError:
        return None


def file_digest(file: Path, memory: Path | None) -> str:
    """Return a file's SHA-256 in hexadecimal; arguments and errors are those of `remembered`."""
    return remembered("sha256", file, memory, _sha256)


def remembered(what: str, file: Path, memory: Path | None, find: Callable[[Path], str]) -> str:
    """Return what is known of a file's content, found out again only if the file has changed.

    Args:
        what: Name of what is to be known, in lower-case letters and digits.
        file: The file; a link counts as what it points to.
        memory: Folder where it is remembered, made if need be; None remembers in this process only.
        find: Finds it out, by reading the file.

    Raises:
        OSError: The file cannot be read. That nothing can be remembered in the folder is no error.
    """
    file = file.resolve()
    state = _state(file)
    if (known := _of_this_process.get((what, file))) is not None and known[0] == state:
        return known[1]
    name = hashlib.sha256(os.fsencode(file)).hexdigest()[:32] + ("" if what == "sha256" else f"-{what}")
    note = None if memory is None else memory / f"{name}.json"
    if note is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(note.read_text(encoding="utf-8"))
            if kept["state"] == state:
                return str(kept[what])
    # A change within the clock step of the last one would not show: let it pass before reading.
    if 0 < (wait := state["ctime_ns"] / 1e9 + _CLOCK_STEP - time.time()) <= _CLOCK_STEP:
        time.sleep(wait)
    found = find(file)
    if _state(file) == state and not _kept(note, {"state": state, what: found}):
        _of_this_process[what, file] = state, found
    return found


def _kept(note: Path | None, content: dict[str, object]) -> bool:
    if note is None:
        return False
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        _logger.info("a checksum cannot be kept in %s (%s)", note, error)
        return False
    return True


def _state(file: Path) -> dict[str, int]:
    """What changes when a file is written to or another takes its place."""
    status = file.stat()
    return {
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
        "device": status.st_dev,
    }


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    buffer = bytearray(1 << 20)
    with file.open("rb", buffering=0) as opened:
        while size := opened.readinto(buffer):
            digest.update(memoryview(buffer)[:size])
    return digest.hexdigest()
