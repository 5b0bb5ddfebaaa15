"""Files that appear whole or not at all: written beside their place under another name, then moved there.

A process that is killed outright leaves its part file behind. The next one that writes the same file removes it. Which
part files are still being written is told by a lock (`flock`) on the part file itself, which the system takes away
when its process dies: process numbers are given out again, and mean nothing to another container or machine on the same
disk. Where the file system has no locks, or the system has no `flock`, nothing is taken for left behind. This module
knows nothing about what is written.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trivec.errors import TrivecError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new, empty file beside `path` to write to; it takes the place of `path` if all goes well.

    Whatever exception ends the block, `path` stays as it was and the part file is removed. Write into the part file by
    any means that keeps it the same file: do not move another one over it, which would not be locked. Part files of
    `path` that dead processes left are removed beforehand.

    Example:
        >>> with replacing(Path("notes.npz")) as part:  # doctest: +SKIP
        ...     part.write_bytes(archive)

    Raises:
        OSError: No file can be made beside `path`, or `path` cannot be replaced.
    """
    remove_leftovers(path)
    with _part_file(path) as part:
        yield part
        part.replace(path)


def check_writable(path: Path) -> None:
    """Make sure that `path` can be written, before the work whose result it is.

    Raises:
        TrivecError: It is a folder, or no file can be made beside it.
    """
    if not path.absolute().parent.is_dir():
        raise TrivecError(f"cannot write {path}: its folder does not exist")
    if path.is_dir():
        raise TrivecError(f"cannot write {path}: it is a folder")
    try:
        with _part_file(path):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> TrivecError:
    """What to raise for an error of the system's that came up while `path` was written."""
    # pyarrow puts a text of its own where the system's stands.
    return TrivecError(f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}")


def remove_leftovers(path: Path) -> int:
    """Remove the part files of `path` whose process is dead, and return how many; what cannot be removed stays.

    `replacing` does so too; call it where disk space is wanted back before the file is next written.
    """
    part_name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.part")
    removed = 0
    with suppress(OSError), os.scandir(path.absolute().parent) as entries:
        for part in [Path(entry.path) for entry in entries if part_name.fullmatch(entry.name)]:
            with suppress(OSError):  # locked by who writes it, another user's, or just gone
                removed += _remove_if_left(part)
    return removed


@contextmanager
def _part_file(path: Path) -> Iterator[Path]:
    """Give a new, locked part file of `path`; it is removed at the end, unless it was moved."""
    lock = None
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        try:  # from before it is made: on a slow disk, Ctrl-C comes just then
            lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
            # Until it was locked, another process may have taken it for left behind.
            if _is(part, lock):
                yield part
                return
        finally:
            part.unlink(missing_ok=True)
            if lock is not None:
                os.close(lock)
                lock = None


def _remove_if_left(part: Path) -> bool:
    if fcntl is None:
        return False
    lock = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one that was locked may have been moved to its place meanwhile.
        if not _is(part, lock):
            return False
        part.unlink()
        return True
    finally:
        os.close(lock)


def _is(part: Path, descriptor: int) -> bool:
    """Whether a path still leads to the file that is open."""
    try:
        return os.path.samestat(part.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
