"""Which records of which files make which shard: found once by a quick look, kept in the folder, the same for everyone.

Of .jsonl files, a shard holds a range of lines, of .parquet files a range of rows; other files are whole in one. Small
files share a shard. Knows what a file's kind says about where it can be cut, nothing about texts or models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trivec.documents import DocumentError
from trivec.documents.decoding import can_be_cut
from trivec.documents.finding import RECORD_SUFFIXES, STDIN, find_files
from trivec.shards import places
from trivec.support.extras import require

_LINES = (".jsonl", ".ndjson")
# What is read from other file systems than this machine's: files that can be cut.
_REMOTE = (*_LINES, ".parquet")
_BLOCK = 1 << 22


@dataclass(frozen=True)
class InputFile:
    """A file that documents are read from.

    Attributes:
        place: Its whole path, or its URI.
        name: What it is called in ids.
        size: In bytes.
        changed: When it last changed, in nanoseconds since 1970; 0 if that is not known.
    """

    place: str
    name: str
    size: int
    changed: int

    @property
    def suffix(self) -> str:
        """The ending of its name, in lower case."""
        return Path(self.name.partition("?")[0]).suffix.lower()


@dataclass(frozen=True)
class Piece:
    """Some records of a file.

    Attributes:
        file: Its index among the input files.
        start: Byte (of lines) or row that it begins with.
        stop: Byte or row that it ends before; None: the whole file, however it is read.
        before: Lines or rows of the file that lie before it.
        records: How many there are, blank lines and what else is no document included.
    """

    file: int
    start: int
    stop: int | None
    before: int
    records: int


@dataclass(frozen=True)
class Shard:
    """What makes one file of the folder, called `name`."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def records(self) -> int:
        """How many records it is made of, about."""
        return sum(piece.records for piece in self.pieces)


@dataclass(frozen=True)
class Plan:
    """All shards, and the files that their pieces are of."""

    files: tuple[InputFile, ...]
    shards: tuple[Shard, ...]

    @property
    def records(self) -> int:
        """How many records there are, about."""
        return sum(shard.records for shard in self.shards)


def find_inputs(paths: Iterable[str]) -> tuple[InputFile, ...]:
    """Find the files that paths and URIs name, each once.

    Raises:
        DocumentError: A path does not exist, or is of another kind; or it is standard input.
        TrivecError, OSError: A URI leads nowhere.
    """
    local: list[str] = []
    inputs: list[InputFile] = []
    for path in paths:
        if path == str(STDIN):
            raise DocumentError("standard input can be read only once: write it to a file, then encode that")
        if not places.is_uri(path):
            local.append(path)
            continue
        files = [
            InputFile(file.place, file.place.partition("?")[0], file.size, file.changed) for file in places.found(path)
        ]
        usable = [file for file in files if file.suffix in _REMOTE]
        if not usable:
            raise DocumentError(f"{path} holds no {', '.join(_REMOTE)} file: others are read from this machine only")
        inputs += usable
    if local:
        found = find_files(local)
        if found.misnamed:
            raise DocumentError(": ".join(map(str, found.misnamed[0])))
        for source in found.files:
            about = Path(source.whole).stat()
            inputs.append(InputFile(source.whole, source.name, about.st_size, about.st_mtime_ns))
    return tuple({file.place: file for file in inputs}.values())


def make_plan(files: Sequence[InputFile], shard_records: int, encoding: str | None) -> Plan:
    """Cut files into shards; lines are counted, of Parquet files just the footer is read.

    Args:
        files: The files.
        shard_records: Most records of a shard, unless a file that cannot be cut has more.
        encoding: Of files without a byte order mark; None: UTF-8.

    Raises:
        DocumentError: A file is damaged.
        OSError: A file cannot be read.
    """
    shards: list[Shard] = []
    pieces: list[Piece] = []
    records = 0

    def close() -> None:
        if pieces:
            shards.append(Shard(f"shard-{len(shards):06d}.parquet", tuple(pieces)))
            pieces.clear()

    for number, file in enumerate(files):
        for piece in _pieces(number, file, shard_records, encoding):
            if records + piece.records > shard_records:
                close()
                records = 0
            pieces.append(piece)
            records += piece.records
    close()
    return Plan(tuple(files), tuple(shards))


def _pieces(number: int, file: InputFile, most: int, encoding: str | None) -> Iterator[Piece]:
    if file.suffix == ".parquet":
        rows = _parquet_rows(file)
        for start in range(0, rows, most):
            yield Piece(number, start, min(start + most, rows), start, min(most, rows - start))
    elif file.suffix in _LINES:
        with places.opened(file.place) as stream:
            if can_be_cut(stream, encoding):
                yield from _line_ranges(number, stream, most)
            elif places.is_uri(file.place):
                raise DocumentError(f"{file.place} is not plain UTF-8: convert it, or copy it to this machine")
            else:
                yield Piece(number, 0, None, 0, _line_ends(stream))
    elif file.suffix in RECORD_SUFFIXES:
        with places.opened(file.place) as stream:
            yield Piece(number, 0, None, 0, _line_ends(stream))
    else:
        yield Piece(number, 0, None, 0, 1)


def _line_ranges(number: int, stream: Any, most: int) -> Iterator[Piece]:
    """Cut what follows in a stream after every `most` lines."""
    start = position = stream.tell()
    before = lines = 0
    last = b"\n"
    while block := stream.read(_BLOCK):
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        taken = 0
        while lines + len(ends) - taken >= most:
            taken += most - lines
            stop = position + int(ends[taken - 1]) + 1
            yield Piece(number, start, stop, before, most)
            start, before, lines = stop, before + most, 0
        lines += len(ends) - taken
        position += len(block)
        last = block[-1:]
    lines += last != b"\n"  # the last line may have no end
    if start < position:
        yield Piece(number, start, position, before, lines)


def _line_ends(stream: Any) -> int:
    return sum(block.count(b"\n") for block in iter(lambda: stream.read(_BLOCK), b""))


def _parquet_rows(file: InputFile) -> int:
    pa, pq = require("pyarrow"), require("pyarrow.parquet")
    try:
        with places.opened(file.place) as stream:
            return int(pq.read_metadata(stream).num_rows)
    except (pa.ArrowException, OSError, MemoryError, OverflowError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise DocumentError(f"{file.place}: not a readable Parquet file: {error}") from error


def plan_bytes(plan: Plan) -> bytes:
    """Return a plan as JSON lines: the files, then the shards with their pieces as lists of five numbers."""
    lines = [json.dumps(asdict(file)) for file in plan.files]
    for shard in plan.shards:
        pieces = [[piece.file, piece.start, piece.stop, piece.before, piece.records] for piece in shard.pieces]
        lines.append(json.dumps({"shard": shard.name, "pieces": pieces}))
    return ("\n".join(lines) + "\n").encode()


def plan_of(data: bytes) -> Plan:
    """Return the plan that `plan_bytes` gave.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    files: list[InputFile] = []
    shards: list[Shard] = []
    for line in map(json.loads, data.splitlines()):
        if "shard" in line:
            shards.append(Shard(line["shard"], tuple(Piece(*piece) for piece in line["pieces"])))
        else:
            files.append(InputFile(**line))
    return Plan(tuple(files), tuple(shards))


def differing_input(planned: Sequence[InputFile], found: Sequence[InputFile]) -> str | None:
    """Say in what the files found differ from those that were planned with; None if they do not."""
    before, now = ({file.place: file for file in files} for files in (planned, found))
    if gone := [place for place in before if place not in now]:
        return f"{gone[0]} belongs to it and is not among the files named"
    if new := [place for place in now if place not in before]:
        return f"{new[0]} does not belong to it"
    for place, file in now.items():
        if file != before[place]:
            if file.name != before[place].name:
                return f"{place} was called {before[place].name} in ids, and from this working folder is {file.name}"
            return f"{place} has changed since ({before[place].size:,} bytes before, {file.size:,} now)"
    return None
