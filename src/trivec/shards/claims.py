"""Which process does which shard, where several share a folder: by locks that the system takes away when one dies.

A shard is a byte of one file, locked by `fcntl.lockf`: nothing is left behind, and network file systems with locks
(NFS) tell the machines that share them. Where there are no locks, every claim is granted: there, processes are to be
told apart by hand.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

CLAIMS = ".claims"


class Claims:
    """The claims on a folder's shards; one such object a folder and process, as closing it gives up all of them.

    Args:
        folder: The folder; None where it is not of this machine's file systems.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file: int | None = None
        if folder is not None and fcntl is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / CLAIMS, os.O_RDWR | os.O_CREAT, 0o666)

    def close(self) -> None:
        """Give up what is claimed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Have the folder's plan to oneself; waits for whoever has it."""
        claimed = self._lock(0, wait=True)
        try:
            yield
        finally:
            if claimed:
                self._unlock(0)

    @contextmanager
    def claimed(self, shard: int, *, wait: bool = False) -> Iterator[bool]:
        """Claim a shard, by its number from 0, for as long as the block takes.

        Args:
            shard: Its number.
            wait: Wait for the process that has it, to the end of its work or its life.

        Yields:
            Whether it is granted; False where another process has it.
        """
        granted = self._lock(shard + 1, wait)
        try:
            yield granted
        finally:
            if granted:
                self._unlock(shard + 1)

    def _lock(self, byte: int, wait: bool) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
        except OSError as error:
            # Those two say that another process has it; whatever else, that there are no locks.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def _unlock(self, byte: int) -> None:
        if self._file is not None:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
