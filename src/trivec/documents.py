"""Documents: what they are and how they are read from files.

A document is an id, a text and metadata. This module reads folders of .txt and .md, and .jsonl, .csv and .parquet files
into documents, one at a time, so that a file larger than memory passes through. It knows nothing about tokens, vectors
or Milvus.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral
from pathlib import Path
from typing import Any

from trivec.errors import MissingExtraError, TrivecError

TEXT_SUFFIXES = (".txt", ".md")
RECORD_SUFFIXES = (".jsonl", ".csv", ".parquet")

# The csv module refuses fields beyond 131,072 characters by default, which scraped pages reach.
_CSV_FIELD_LIMIT = 2**31 - 1


class DocumentError(TrivecError):
    """A document or its file cannot be used; the message names the file and line, or the document's id."""


class MetadataError(DocumentError):
    """A document's metadata cannot be stored; the message names the document and the key."""


@dataclass(frozen=True)
class Document:
    """One text to encode or store.

    Attributes:
        id: What identifies the document; storing another one with the same id replaces it.
        text: The text itself.
        metadata: Further fields by name, of values that JSON can hold.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def content_id(text: str) -> str:
    """Return the id of a text that comes without one: the first 32 hex digits of its SHA-256.

    >>> content_id("Alan Turing")
    '4ba38d48a60f1b29e9eb726eaff08b2e'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def as_document(item: Document | Mapping[str, Any] | str, position: int) -> Document:
    """Turn what users pass as a document into a `Document`.

    Args:
        item: A `Document`; a dict with "text" and optionally "id" (a str or an int, also NumPy's) and "metadata" (a
            dict); or a str. Where no id is given, it is derived from the text (`content_id`).
        position: The item's place in its iterable, for error messages.

    Raises:
        TypeError: `item` or one of its fields is of another type; the message names the position.
        DocumentError: the dict lacks "text" or holds a key other than the three.
    """
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return Document(content_id(item), item)
    if not isinstance(item, Mapping):
        raise TypeError(f"document {position} is {type(item).__name__}, not a str, a dict or a trivec Document")
    unknown = [key for key in item if key not in ("id", "text", "metadata")]
    if unknown:
        raise DocumentError(
            f"document {position} has the key {unknown[0]!r}: a document holds 'id', 'text' and 'metadata', "
            f"so put {unknown[0]!r} inside 'metadata'"
        )
    if "text" not in item:
        raise DocumentError(f"document {position} has no 'text'")
    text, metadata = item["text"], item.get("metadata") or {}
    if not isinstance(text, str):
        raise TypeError(f"the text of document {position} is {type(text).__name__}, not str")
    if not isinstance(metadata, Mapping):
        raise TypeError(f"the metadata of document {position} is {type(metadata).__name__}, not a dict")
    identifier = item.get("id")
    if identifier is None:
        return Document(content_id(text), text, metadata)
    if isinstance(identifier, bool) or not isinstance(identifier, str | Integral):
        raise TypeError(f"the id of document {position} is {type(identifier).__name__}, not a str or an int")
    return Document(str(identifier), text, metadata)


def read_documents(
    paths: Iterable[str | Path],
    *,
    text_field: str = "text",
    id_field: str | None = None,
    metadata_fields: Sequence[str] | None = None,
) -> Iterator[Document]:
    """Read files and folders into documents, lazily and in a fixed order.

    A .txt or .md file is one document, its id the path. Each line of a .jsonl file, row of a .csv file and row of a
    .parquet file is one document; its id is the record's id field or, where there is none, the path and the line or row
    number (`notes.jsonl:7`). A folder is searched for files of these five kinds, in sorted order, hidden ones left out.
    Paths inside ids are as given, so the same command gives the same ids. Every document carries the metadata "path".

    Args:
        paths: Files and folders.
        text_field: The field that holds a record's text.
        id_field: The field that holds a record's id. None: "id" where a record has it.
        metadata_fields: The fields to keep as metadata. None: all the others.

    Raises:
        DocumentError: a path does not exist or is of another kind, a folder cannot be read or holds no such file, a
            file is not UTF-8, a line is not a JSON object, a .csv header repeats a name, or a record lacks its text or
            id. The message names the file and line.
        MissingExtraError: a .parquet file was given and pyarrow is not installed.
    """
    # Everything that can be known before the first document is read is checked here, not hours into a run.
    files = [file for path in paths for file in _find_files(Path(path))]
    fields = _Fields(text_field, id_field, None if metadata_fields is None else frozenset(metadata_fields))
    return _read_files(files, fields)


def read_texts(file: str | Path, *, text_field: str = "text") -> Iterator[Document]:
    """Read a file of many texts, lazily: as `read_documents` does, but every line of a .txt file is a text of its own.

    Lines of white space are left out. The id of a line is the path and the line number.

    Args:
        file: The file.
        text_field: The field that holds a record's text.

    Raises: as `read_documents`.
    """
    path = Path(file)
    if path.suffix.lower() == ".txt" and path.is_file():
        return _read_lines(path)
    return read_documents([path], text_field=text_field, metadata_fields=[])


def document_total(paths: Iterable[str | Path]) -> int | None:
    """Return how many documents `read_documents` will give; None where only reading all of a file would tell.

    Raises: as `read_documents`.
    """
    files = [file for path in paths for file in _find_files(Path(path))]
    if any(file.suffix.lower() not in (*TEXT_SUFFIXES, ".parquet") for file in files):
        return None
    total = 0
    for file in files:
        if file.suffix.lower() in TEXT_SUFFIXES:
            total += 1
        else:
            with _parquet_file(file) as parquet:
                total += parquet.metadata.num_rows
    return total


def _read_files(files: Sequence[Path], fields: _Fields) -> Iterator[Document]:
    for file in files:
        suffix = file.suffix.lower()
        try:
            if suffix in TEXT_SUFFIXES:
                yield Document(file.as_posix(), _read_text(file), {"path": file.as_posix()})
            else:
                for number, record in _RECORD_READERS[suffix](file):
                    yield fields.document(record, file, number)
        except OSError as error:
            raise DocumentError(f"{file}: {error.strerror or error}") from error


def _read_lines(file: Path) -> Iterator[Document]:
    try:
        for number, line in enumerate(_utf8_lines(file), start=1):
            if text := line.strip():
                yield Document(f"{file.as_posix()}:{number}", text)
    except OSError as error:
        raise DocumentError(f"{file}: {error.strerror or error}") from error


def _find_files(path: Path) -> list[Path]:
    known = (*TEXT_SUFFIXES, *RECORD_SUFFIXES)
    if path.is_dir():
        inside = sorted(file for file in _walk(path) if file.suffix.lower() in known and file.is_file())
        found = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        if not found:
            raise DocumentError(f"{path} holds no {', '.join(known)} file")
        return found
    if not path.exists():
        raise DocumentError(f"{path} does not exist")
    if path.suffix.lower() not in known:
        raise DocumentError(f"{path} is not a {', '.join(known)} file: rename or convert it")
    return [path]


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DocumentError(f"cannot look into the folder {error.filename}: {error.strerror}") from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)


@dataclass(frozen=True)
class _Fields:
    """Which of a record's fields are its text, its id and its metadata."""

    text: str
    id: str | None
    metadata: frozenset[str] | None

    def document(self, record: Mapping[str, Any], file: Path, number: int) -> Document:
        place = f"{file}:{number}"
        if self.text not in record:
            names = ", ".join(map(repr, record)) or "no fields"
            raise DocumentError(f"{place}: no field {self.text!r} for the text; the record has {names}")
        text = record[self.text]
        if not isinstance(text, str):
            raise DocumentError(f"{place}: the text field {self.text!r} holds {_kind(text)}, not text")
        id_field = self.id or "id"
        identifier = record.get(id_field)
        if self.id is not None and identifier is None:
            raise DocumentError(f"{place}: no field {self.id!r} for the id")
        if identifier is None or identifier == "":
            identifier = f"{file.as_posix()}:{number}"
        elif isinstance(identifier, bool) or not isinstance(identifier, str | int):
            raise DocumentError(f"{place}: the id field {id_field!r} holds {_kind(identifier)}, not text or an integer")
        taken = {self.text, id_field}
        kept = {
            name: value
            for name, value in record.items()
            if name not in taken and (self.metadata is None or name in self.metadata)
        }
        return Document(str(identifier), text, {"path": file.as_posix(), **kept})


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DocumentError(f"{file}:{line}: {_not_utf8(error)}") from error


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} is not UTF-8: convert the file to UTF-8"


def _utf8_lines(file: Path) -> Iterator[str]:
    """Yield the file's lines with their line ends, so that a wrong byte is named with its line."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DocumentError(f"{file}:{number}: {_not_utf8(error)}") from error


def _read_jsonl(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_utf8_lines(file), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DocumentError(f"{file}:{number}: not JSON: {error.msg} at column {error.colno}") from error
        except ValueError as error:  # the only other one: Python reads integers of at most 4,300 digits
            raise DocumentError(f"{file}:{number}: an integer has too many digits: put it in quotes") from error
        except RecursionError as error:
            raise DocumentError(f"{file}:{number}: lists or objects are nested too deeply") from error
        if not isinstance(record, dict):
            raise DocumentError(f"{file}:{number}: {_kind(record)}, not a JSON object")
        yield number, record


def _read_csv(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # The limit is the csv module's own and process-wide; it is raised and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_LIMIT))
    reader = csv.reader(_utf8_lines(file), strict=True)
    try:
        header = next(reader, [])
        if repeated := [name for place, name in enumerate(header) if name in header[:place]]:
            raise DocumentError(f"{file}:1: the header names the column {repeated[0]!r} twice: rename one")
        first_line = reader.line_num + 1  # a record in quotes may span lines; it is named by its first one
        for row in reader:
            if row:
                if len(row) != len(header):
                    raise DocumentError(
                        f"{file}:{first_line}: {len(row)} columns, but the header names {len(header)}; "
                        "put a field that contains commas in double quotes"
                    )
                yield first_line, dict(zip(header, row, strict=True))
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise DocumentError(f"{file}:{reader.line_num}: not CSV: {error}") from error


def _read_parquet(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with _parquet_file(file) as parquet:
        number = 0
        for batch in parquet.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                number += 1
                yield number, {name: _json_value(value) for name, value in record.items()}


@contextmanager
def _parquet_file(file: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow") from error
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except pa.ArrowInvalid as error:
        raise DocumentError(f"{file}: not a readable Parquet file: {error}") from error


def _json_value(value: Any) -> Any:
    """Return dates and decimals as text, as JSON has neither; leave everything else as it is."""
    if isinstance(value, list):
        return [_json_value(element) for element in value]
    if isinstance(value, dict):
        return {name: _json_value(element) for name, element in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


_RECORD_READERS: Mapping[str, Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
