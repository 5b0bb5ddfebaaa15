"""Files and folders of this machine and of other file systems (s3://, gs://, hdfs://) by one set of calls.

What is written appears whole or not at all, everywhere: under another name first, then moved. Knows nothing about
what the files hold.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from trivec.errors import TrivecError
from trivec.support import part_files
from trivec.support.extras import require

_BLOCK = 1 << 20


def is_uri(place: str) -> bool:
    """Whether a place is named by a URI such as s3://bucket/key, not by a path of this machine."""
    return "://" in place


@dataclass(frozen=True)
class PlacedFile:
    """A file that was found.

    Attributes:
        place: Its path or URI.
        size: In bytes.
        changed: When it last changed, in nanoseconds since 1970; 0 where the file system does not say.
    """

    place: str
    size: int
    changed: int


@contextmanager
def opened(place: str) -> Iterator[io.BufferedReader]:
    """Open a file for reading bytes; it can be searched (`seek`).

    Raises:
        OSError: It cannot be read.
        TrivecError: There is no such kind of file system.
    """
    if not is_uri(place):
        with Path(place).open("rb") as stream:
            yield stream
        return
    filesystem, path = _filesystem(place)
    with filesystem.open_input_file(path) as stream, io.BufferedReader(stream, _BLOCK) as buffered:
        yield buffered


def found(place: str) -> list[PlacedFile]:
    """Find the file that a URI names, or those in the folder that it names and below, by name.

    Raises:
        OSError: The file system cannot be reached.
        TrivecError: There is nothing.
    """
    fs = require("pyarrow.fs")
    filesystem, path = _filesystem(place)
    about = filesystem.get_file_info(path)
    if about.type == fs.FileType.File:
        return [PlacedFile(place, about.size, about.mtime_ns or 0)]
    inside = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    before, query = place.partition("?")[::2]
    files = [
        PlacedFile(
            before.rstrip("/") + each.path[len(path.rstrip("/")) :] + (f"?{query}" if query else ""),
            each.size,
            each.mtime_ns or 0,
        )
        for each in inside
        if each.type == fs.FileType.File and not each.base_name.startswith((".", "_"))
    ]
    if not files:
        raise TrivecError(f"{place} does not exist, or is an empty folder")
    return sorted(files, key=lambda file: file.place)


class Folder:
    """A folder to write files into, which several processes and machines may do at once.

    Args:
        place: A path or URI; it is made by the first file.

    Attributes:
        place: Its whole path, or its URI.
        local: The folder as a path, where it is of this machine; None elsewhere.
    """

    def __init__(self, place: str) -> None:
        self.local = None if is_uri(place) else Path(place).absolute()
        self.place = place if self.local is None else str(self.local)

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "local": self.local}

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        filesystem, path = _filesystem(self.place)
        return filesystem, path.rstrip("/")

    def names(self) -> set[str]:
        """Names of the files in the folder, not below; none if there is no folder.

        Raises:
            OSError: It cannot be looked into.
        """
        if self.local is not None:
            return {entry.name for entry in os.scandir(self.local)} if self.local.is_dir() else set()
        fs = require("pyarrow.fs")
        filesystem, path = self._remote
        inside = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {each.base_name for each in inside if each.type == fs.FileType.File}

    def has(self, name: str) -> bool:
        """Whether a file is there.

        Raises:
            OSError: It cannot be told.
        """
        if self.local is not None:
            return (self.local / name).is_file()
        filesystem, path = self._remote
        return bool(filesystem.get_file_info(f"{path}/{name}").type == require("pyarrow.fs").FileType.File)

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading bytes, with `seek`.

        Raises:
            OSError: It cannot be read; FileNotFoundError where it is not there.
        """
        if self.local is not None:
            with (self.local / name).open("rb") as stream:
                yield stream
            return
        filesystem, path = self._remote
        with filesystem.open_input_file(f"{path}/{name}") as stream:
            yield cast("BinaryIO", stream)

    def read(self, name: str) -> bytes | None:
        """Return all of a file; None if it is not there.

        Raises:
            OSError: It cannot be read.
        """
        try:
            with self.opened(name) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Give a stream whose bytes become the file, on the disk and under its name, if all goes well.

        Raises:
            OSError: It cannot be written.
        """
        if self.local is None:
            with self._writing_remotely(name) as stream:
                yield stream
            return
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_files.replacing(path) as part, part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _writing_remotely(self, name: str) -> Iterator[BinaryIO]:
        # Closing a stream makes the object whole, also when an error closes it: so never under its own name.
        filesystem, path = self._remote
        target = f"{path}/{name}"
        parent, _, base = target.rpartition("/")
        filesystem.create_dir(parent, recursive=True)
        part = f"{parent}/.{base}.{secrets.token_hex(8)}.part"
        try:
            with filesystem.open_output_stream(part) as stream:
                yield stream
            filesystem.move(part, target)
        except BaseException:
            with suppress(OSError):
                filesystem.delete_file(part)
            raise


def _filesystem(place: str) -> tuple[Any, str]:
    pa, fs = require("pyarrow"), require("pyarrow.fs")
    try:
        filesystem, path = fs.FileSystem.from_uri(place)
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise TrivecError(f"{place} names no place that pyarrow knows: {error}") from error
    return filesystem, path
