"""Files that a command line names as documents: looked through before any work, read past what is bad if told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trivec.cli import reporting
from trivec.cli.options import SourceOptions
from trivec.documents.finding import SKIPPED, describe_left_out
from trivec.errors import TrivecError

if TYPE_CHECKING:
    from trivec.documents import BadRecord, Document, DocumentFiles


class Sources:
    """The documents of the files and folders of a command line; to be iterated over once.

    Making it says what folders leave out and, unless bad records are to be skipped, makes sure that all can be read.
    Bad records that are skipped go to a file as JSON lines, and when all is read, or reading ends otherwise, how many
    they were is said.

    Args:
        files: The files.
        skip: Whether bad records are skipped, rather than end the command.
        skipped_beside: The path to which ".skipped.jsonl" is added for the file that lists what is skipped; it is made
            when something is.

    Attributes:
        total: How many documents there will be; None where only reading them tells.
        skipped: How many bad records have been skipped so far.

    Raises:
        DocumentError: Records or files are bad; it names every such file.
    """

    def __init__(self, files: DocumentFiles, skip: bool, skipped_beside: Path) -> None:
        self._files = files
        self._skip = skip
        self.skipped = 0
        self._list = skipped_beside.with_name(f"{skipped_beside.name}{SKIPPED}")
        say_left_out(files)
        self.total = files.look_through(
            lambda documents: reporting.counted(documents, "Looking through the files"), refuse=not skip
        )

    def __iter__(self) -> Iterator[Document]:
        if not self._skip:
            yield from self._files.read()
            return
        stream = None

        def skip(record: BadRecord) -> None:
            nonlocal stream
            try:
                if stream is None:
                    stream = self._list.open("w", encoding="utf-8", buffering=1)  # its lines are there if it is killed
                stream.write(record.as_json() + "\n")
            except OSError as error:
                raise TrivecError(f"cannot list what is skipped in {self._list}: {error.strerror or error}") from error
            self.skipped += 1

        try:
            yield from self._files.read(skip)
        finally:
            if stream is not None:
                stream.close()
                reporting.warn(f"{reporting.amount(self.skipped, 'record')} skipped: {self._list} says which and why")


def say_left_out(files: DocumentFiles) -> None:
    """Say which files of the folders are not read."""
    if files.left_out:
        reporting.say(f"left out: {describe_left_out(files.left_out)}")


def open_sources(
    paths: list[Path],
    options: SourceOptions,
    *,
    metadata_fields: list[str] | None,
    skipped_beside: Path,
    base: Path | None = None,
    check: Callable[[Document], object] | None = None,
) -> Sources:
    """Find, name and look through the files of a command line.

    Args are those of `trivec.documents.DocumentFiles` and of `Sources`.

    Raises:
        typer.BadParameter: The delimiter is not one character.
        DocumentError: As of `DocumentFiles` and `Sources`.
    """
    from trivec.documents import DocumentError, DocumentFiles, MetadataError

    try:
        files = DocumentFiles(
            paths,
            text_field=options.text_field,
            id_field=options.id_field,
            metadata_fields=metadata_fields,
            encoding=options.encoding,
            delimiter=delimiter_of(options),
            base=base,
            check=check,
        )
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error
    try:
        return Sources(files, options.on_error == "skip", skipped_beside)
    except DocumentError as error:
        others = ", or keep others with --metadata" if isinstance(error, MetadataError) else ""
        raise DocumentError(f"{error}{others}; --on-error skip leaves bad records out and lists them") from error


def delimiter_of(options: SourceOptions) -> str | None:
    """Return what separates columns, None for the default; a tab, which is hard to type, has a name."""
    return {"\\t": "\t", "tab": "\t"}.get(options.delimiter or "", options.delimiter)
