"""The documents of a shard as Arrow tables of a bounded size, with what is bad told beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trivec.documents import BadRecord, Document, DocumentFiles
from trivec.documents.fields import Fields
from trivec.documents.finding import SourceFile
from trivec.documents.parquet import read_parquet
from trivec.documents.records import Record, UnusableFileError, read_jsonl
from trivec.shards import places
from trivec.shards.columns import input_schema
from trivec.shards.plan import InputFile, Piece
from trivec.support.extras import require

# What is encoded in one go: enough windows of the encoder that one is tokenized while another is computed ...
_ROWS = 4096
_CHARACTERS = 16_000_000
# ... but for token vectors, which are held until they are written: 200 MB as fp16 at full size.
_CHARACTERS_WITH_TOKEN_VECTORS = 400_000


@dataclass(frozen=True)
class Reading:
    """How records become documents; the fields are as `trivec.documents.DocumentFiles` has them."""

    text_field: str = "text"
    id_field: str | None = None
    metadata_fields: tuple[str, ...] | None = None
    encoding: str | None = None
    delimiter: str | None = None


def documents_of(
    pieces: Iterable[Piece], files: Sequence[InputFile], reading: Reading, on_error: Callable[[BadRecord], object]
) -> Iterator[Document]:
    """Read the documents of a shard.

    Args:
        pieces: What it is made of.
        files: The files that the pieces number.
        reading: How records become documents.
        on_error: Called with each record, or file, that cannot be a document.

    Raises:
        OSError: A file cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    fields = Fields(
        reading.text_field,
        reading.id_field,
        None if reading.metadata_fields is None else frozenset(reading.metadata_fields),
    )
    for piece in pieces:
        file = files[piece.file]
        if piece.stop is None:
            yield from _whole(file, reading, on_error)
            continue
        source = SourceFile(Path(file.place), file.name, file.place)
        try:
            for number, record in _records(piece, file, reading, fields):
                found = fields.document(record, source, number)
                if isinstance(found, BadRecord):
                    on_error(replace(found, file=file.place))
                else:
                    yield found
        except UnusableFileError as error:
            on_error(BadRecord(file.place, error.line, error.reason))


def _whole(file: InputFile, reading: Reading, on_error: Callable[[BadRecord], object]) -> Iterator[Document]:
    # Ids are as they were planned, wherever the process works that reads the file.
    base = Path(file.place.removesuffix(file.name)) if file.name != file.place else Path(file.place, "nowhere")
    opened = DocumentFiles(
        [file.place],
        text_field=reading.text_field,
        id_field=reading.id_field,
        metadata_fields=reading.metadata_fields,
        encoding=reading.encoding,
        delimiter=reading.delimiter,
        base=base,
    )
    yield from opened.read(on_error)


def _records(piece: Piece, file: InputFile, reading: Reading, fields: Fields) -> Iterator[tuple[int, Record]]:
    assert piece.stop is not None
    with places.opened(file.place) as stream:
        if file.suffix == ".parquet":
            yield from read_parquet(stream, fields.wanted, (piece.start, piece.stop))
            return
        stream.seek(piece.start)
        for number, record in read_jsonl(_lines(stream, piece.stop - piece.start, reading), reading.encoding):
            yield piece.before + number, record


def _lines(stream: Any, size: int, reading: Reading) -> Iterator[str]:
    while size > 0:
        line = stream.readline()
        if not line:
            raise UnusableFileError("it is shorter than it was when the work was planned")
        size -= len(line)
        yield line.decode(reading.encoding or "utf-8", "surrogateescape")


def tables_of(documents: Iterable[Document], token_vectors: bool) -> Iterator[Any]:
    """Put documents together to Arrow tables of id, text and metadata (JSON), each small enough to encode in one go."""
    pa = require("pyarrow")
    most = _CHARACTERS_WITH_TOKEN_VECTORS if token_vectors else _CHARACTERS
    rows: list[tuple[str, str, str]] = []
    characters = 0

    def table() -> Any:
        columns = zip(*rows, strict=True)
        return pa.table([pa.array(column, pa.string()) for column in columns], schema=input_schema())

    for document in documents:
        metadata = json.dumps(document.metadata, ensure_ascii=False)
        rows.append((document.id, document.text, metadata))
        characters += len(document.text) + len(metadata)
        if len(rows) == _ROWS or characters >= most:
            yield table()
            rows.clear()
            characters = 0
    if rows:
        yield table()
