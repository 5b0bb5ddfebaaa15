"""Files into documents: lazily, in a fixed order, as often as wanted, and past what cannot be read if told so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from trivec.documents.bad_records import BadRecord, all_in_one
from trivec.documents.decoding import NUL, checked_encoding, decode, decoded_lines, decoding_error, wrong_byte
from trivec.documents.document import Document, DocumentError, MetadataError
from trivec.documents.fields import Fields, typed
from trivec.documents.finding import STDIN, TEXT_SUFFIXES, FoundFiles, SourceFile, find_files
from trivec.documents.html_text import declared_encoding, html_text
from trivec.documents.parquet import read_parquet
from trivec.documents.records import Record, Unreadable, UnusableFileError, number_columns, read_csv, read_jsonl

# Faults after which looking for more tells nothing new: the name of a field may be wrong throughout.
_FAULTS_ENOUGH = 1000


class DocumentFiles:
    """Files and folders, found and ready to be read as documents.

    A text file (.txt .md .markdown .html .htm) is one document, its id the path. Each line of a .jsonl or .ndjson file
    and each row of a .csv, .tsv or .parquet file is one; its id is the record's id field or, where there is none, the
    path and the line or row number (`notes.jsonl:7`). A path in an id is relative to the folder `base`, or whole if the
    file lies outside: whatever path leads to a file, its documents are the same. The whole path is in every document's
    metadata, as "path".
    "-" is standard input, a text a line, or JSON lines where the first is a JSON object; what has no id there gets one
    from its text. A column of a .csv or .tsv file holds numbers if all of its values are such (see
    `records.number_columns`; in a pipe all stays text).

    Files are UTF-8, or what their byte order mark says, or a page's <meta> tag. Of pages, scripts and styles are left
    out.

    Args:
        paths: Files, folders and "-".
        text_field: The field that holds a record's text.
        id_field: The field that holds a record's id. None: "id" where a record has it.
        metadata_fields: The fields to keep as metadata. None: all the others.
        encoding: How files without a byte order mark are encoded. None: UTF-8.
        delimiter: What separates the columns of .csv files, a character. None: a comma. In .tsv files it is a tab.
        base: The folder that ids are relative to. None: the working folder.
        check: Refuses documents that cannot be used, by raising DocumentError or MetadataError: they count as bad.

    Attributes:
        files: The files found, each once.
        left_out: How many files of which ending the folders hold beside them.

    Raises:
        DocumentError: A path does not exist or is of another kind, a folder cannot be read or holds no such file, or
            there is no such encoding.
        ValueError: `delimiter` is not one character.
        TypeError: `paths` or `metadata_fields` is a bare string.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        text_field: str = "text",
        id_field: str | None = None,
        metadata_fields: Sequence[str] | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        base: Path | None = None,
        check: Callable[[Document], object] | None = None,
    ) -> None:
        if isinstance(metadata_fields, str):
            raise TypeError(f"metadata_fields is a single str: write [{metadata_fields!r}]")
        check_delimiter(delimiter)
        self._encoding = None if encoding is None else checked_encoding(encoding)
        self._delimiter = delimiter or ","
        self._check = check
        self._fields = Fields(text_field, id_field, None if metadata_fields is None else frozenset(metadata_fields))
        self._number_columns: dict[Path, Mapping[str, Callable[[str], int | float]]] = {}
        found: FoundFiles = find_files(paths, base)
        self.files = found.files
        self.left_out = found.left_out
        self._misnamed = [BadRecord(str(path), None, fault) for path, fault in found.misnamed]

    def read(self, on_error: Callable[[BadRecord], object] | None = None) -> Iterator[Document]:
        """Read the documents, lazily.

        Args:
            on_error: Called with each record or file that cannot be a document, which is then left out. None: the
                first one is raised as an error, those that show in a file's name before anything is read.

        Raises:
            DocumentError: A file cannot be read, or a record lacks its text or id, or holds what JSON or UTF-8 cannot;
                the message names file and line.
            MetadataError: The same of its metadata.
            MissingExtraError: There is a .parquet file, and pyarrow is not installed.
        """
        if self._misnamed and on_error is None:
            raise all_in_one(self._misnamed, False)
        return self._read(self.files, on_error or _refuse)

    def look_through(
        self, watch: Callable[[Iterator[Document]], Iterable[Document]] = iter, *, refuse: bool = True
    ) -> int | None:
        """Read everything once, to know before any work whether all of it can be read, and how many documents it is.

        Args:
            watch: Passes the documents on that are read meanwhile, for instance to show progress.
            refuse: Raise an error if something is bad; otherwise that is just not counted.

        Returns:
            How many documents there are; None where a pipe is among the files, which can be read only once.

        Raises:
            DocumentError: As of `read`; it names every file that is bad, with its first bad line.
        """
        regular = [file for file in self.files if file.is_regular]
        bad = list(self._misnamed)

        def note(record: BadRecord) -> None:
            bad.append(record)
            if len(bad) >= _FAULTS_ENOUGH:
                raise _EnoughError

        count, stopped = 0, False
        try:
            for _ in watch(self._read(regular, note if refuse else lambda _: None)):
                count += 1
        except _EnoughError:
            stopped = True
        if bad and refuse:
            raise all_in_one(bad, stopped)
        return count if len(regular) == len(self.files) else None

    def _read(self, files: Iterable[SourceFile], on_error: Callable[[BadRecord], object]) -> Iterator[Document]:
        for record in self._misnamed if on_error is not _refuse else ():
            on_error(record)
        for file in files:
            for found in self._documents(file):
                if isinstance(found, BadRecord):
                    on_error(found)
                else:
                    yield found

    def _documents(self, file: SourceFile) -> Iterator[Document | BadRecord]:
        try:
            if file.suffix in TEXT_SUFFIXES and file.path != STDIN:
                yield self._checked(self._text_document(file), file)
                return
            for number, record in self._records(file):
                yield self._checked(self._fields.document(record, file, number), file, number, record)
        except UnicodeDecodeError as error:
            line, reason = decoding_error(error)
            yield BadRecord(str(file.path), line, reason)
        except OSError as error:
            yield BadRecord(str(file.path), None, error.strerror or str(error))
        except UnusableFileError as error:
            yield BadRecord(str(file.path), error.line, error.reason)

    def _checked(
        self, found: Document | BadRecord, file: SourceFile, line: int | None = None, record: object = None
    ) -> Document | BadRecord:
        if self._check is not None and isinstance(found, Document):
            try:
                self._check(found)
            except DocumentError as error:
                return BadRecord(str(file.path), line, str(error), record, isinstance(error, MetadataError))
        return found

    def _text_document(self, file: SourceFile) -> Document | BadRecord:
        data = file.path.read_bytes()
        page = file.suffix in (".html", ".htm")
        text = decode(data, self._encoding or (declared_encoding(data) if page else None))
        if "\0" in text:
            return BadRecord(str(file.path), None, NUL)
        if page:
            try:
                text = html_text(text)
            except AssertionError as error:  # html.parser's, of sections such as <![nonsense[
                return BadRecord(str(file.path), None, f"not HTML that Python's parser reads: {error}")
        return Document(file.name, text, {"path": file.whole})

    def _records(self, file: SourceFile) -> Iterator[tuple[int, Record]]:
        if file.suffix == ".parquet":
            yield from read_parquet(file.path, self._fields.wanted)
        elif file.suffix in (".csv", ".tsv"):
            yield from self._csv_records(file)
        else:
            with _opened(file.path) as stream:
                lines = decoded_lines(stream, self._encoding)
                if file.path == STDIN:
                    yield from _piped(lines, self._encoding, self._fields.text)
                else:
                    yield from read_jsonl(lines, self._encoding)

    def _csv_records(self, file: SourceFile) -> Iterator[tuple[int, Record]]:
        if not file.is_regular:
            # What numbers are shows at the end of the file, and a pipe is read once: there, all stays text.
            numbers: Mapping[str, Callable[[str], int | float]] = {}
        else:
            if file.path not in self._number_columns:
                self._number_columns[file.path] = (
                    {} if self._fields.metadata == frozenset() else number_columns(r for _, r in self._csv_rows(file))
                )
            numbers = self._number_columns[file.path]
        plain = {self._fields.text, self._fields.id or "id"}
        numbers = {name: kind for name, kind in numbers.items() if name not in plain}
        for number, row in self._csv_rows(file):
            if isinstance(row, Unreadable) or not numbers:
                yield number, row
            else:
                yield number, {name: typed(value, numbers.get(name)) for name, value in row.items()}

    def _csv_rows(self, file: SourceFile) -> Iterator[tuple[int, Record]]:
        with _opened(file.path) as stream:
            delimiter = "\t" if file.suffix == ".tsv" else self._delimiter
            yield from read_csv(decoded_lines(stream, self._encoding), self._encoding, delimiter)


def check_delimiter(delimiter: str | None) -> None:
    """Make sure that columns of .csv files can be separated by it; None is the default.

    Raises:
        ValueError: It is not one character, or is a quote or a line end.
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ValueError(f"delimiter is {delimiter!r}: it must be one character, neither a quote nor a line end")


def read_documents(
    paths: Iterable[str | Path],
    *,
    text_field: str = "text",
    id_field: str | None = None,
    metadata_fields: Sequence[str] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    base: Path | None = None,
    on_error: Callable[[BadRecord], object] | None = None,
) -> Iterator[Document]:
    """Read files and folders into documents, lazily and in a fixed order.

    Example:
        >>> for document in read_documents(["notes/", "faq.csv"], delimiter=";"):  # doctest: +SKIP
        ...     print(document.id, document.metadata)

    Args, kinds of files and errors are those of `DocumentFiles` and its `read`.
    """
    files = DocumentFiles(
        paths,
        text_field=text_field,
        id_field=id_field,
        metadata_fields=metadata_fields,
        encoding=encoding,
        delimiter=delimiter,
        base=base,
    )
    return files.read(on_error)


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


def _read_lines(file: Path) -> Iterator[Document]:
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(decoded_lines(stream, None), start=1):
                if wrong := wrong_byte(line, None):
                    raise DocumentError(f"{file}:{number}: {wrong}")
                if text := line.strip():
                    yield Document(f"{file.as_posix()}:{number}", text)
    except OSError as error:
        raise DocumentError(f"{file}: {error.strerror or error}") from error


def _piped(lines: Iterator[str], encoding: str | None, text_field: str) -> Iterator[tuple[int, Record]]:
    """Yield what standard input holds: JSON lines if the first is a JSON object, else a text a line."""
    first = next(lines, "")
    lines = chain([first], lines)
    if first.lstrip("\ufeff ").startswith("{") and isinstance(next(read_jsonl([first], encoding))[1], Mapping):
        yield from read_jsonl(lines, encoding)
        return
    for number, line in enumerate(lines, start=1):
        if wrong := wrong_byte(line, encoding):
            yield number, Unreadable(wrong, line.rstrip("\r\n"))
        elif "\0" in line:
            yield number, Unreadable(NUL, line.rstrip("\r\n"))
        elif text := line.strip():
            yield number, {text_field: text}


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == STDIN:
        yield sys.stdin.buffer
    else:
        with path.open("rb") as stream:
            yield stream


def _refuse(record: BadRecord) -> None:
    raise record.error()


class _EnoughError(Exception):
    """So much is bad that looking on tells nothing new."""
