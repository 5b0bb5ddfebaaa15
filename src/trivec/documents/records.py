"""Records of JSON lines and CSV files, each with its line, and what is wrong with those that are no records.

A record that cannot be read is given as `Unreadable` in its place, so that the caller may go on behind it. Knows
nothing about which fields matter.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from trivec.documents.decoding import NUL, wrong_byte
from trivec.support.jsonl import json_object

# The csv module refuses fields beyond 131,072 characters by default, which scraped pages reach.
_CSV_FIELD_LIMIT = 2**31 - 1

# What is a number in a CSV column, so that `year == 1910` finds it, and what stays text: no leading zero or plus sign
# (postal codes, telephone numbers), no exponent (1e5 may be a part number), no nan or inf, and only as many digits as a
# number holds exactly.
_integer = re.compile(r"0|-?[1-9][0-9]{0,17}")
_decimal = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_DECIMAL_DIGITS = 15


class UnusableFileError(Exception):
    """Nothing of a file can be read, or no more of it.

    Attributes:
        reason: Why, without the file's name.
        line: The line that says so; None where the whole file is meant.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


@dataclass(frozen=True)
class Unreadable:
    """What stands where a record should be.

    Attributes:
        reason: What is wrong with it.
        record: As much of it as could be read, for the user to find and mend it.
    """

    reason: str
    record: Any = None


Record: TypeAlias = Mapping[str, Any] | Unreadable


def read_jsonl(lines: Iterable[str], encoding: str | None) -> Iterator[tuple[int, Record]]:
    """Yield the line number and the object of each line that is not blank."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _json_object(line, encoding)


def _json_object(line: str, encoding: str | None) -> Record:
    raw = line.rstrip("\r\n")
    if wrong := wrong_byte(line, encoding):
        return Unreadable(wrong, raw)
    try:
        return json_object(line)
    except ValueError as error:
        return Unreadable(str(error), raw)


def read_csv(lines: Iterable[str], encoding: str | None, delimiter: str) -> Iterator[tuple[int, Record]]:
    """Yield each row by the names of the header, with the number of the line that it begins in; all values are text.

    Raises:
        UnusableFileError: The header cannot be used.
    """
    # The limit is the csv module's own and process-wide; it is raised and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_LIMIT))
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UnusableFileError(_csv_fault("the header is not CSV", error), 1) from error
    if fault := _row_fault(header, encoding):
        raise UnusableFileError(fault, 1)
    if repeated := repeated_name(header):
        raise UnusableFileError(f"the header names the column {repeated!r} twice: rename one", 1)
    while True:
        first_line = reader.line_num + 1  # a record in quotes may span lines; it is named by its first one
        try:
            row = next(reader, None)
        except csv.Error as error:
            # Named by the line where it was noticed: an unclosed quote takes in all lines behind it.
            yield reader.line_num, Unreadable(_csv_fault("not CSV", error))
            continue
        if row is None:
            return
        if not row:
            continue
        if fault := _row_fault(row, encoding):
            yield first_line, Unreadable(fault, row)
        elif len(row) != len(header):
            columns = "1 column" if len(row) == 1 else f"{len(row)} columns"
            yield (
                first_line,
                Unreadable(
                    f"{columns}, but the header names {len(header)}; "
                    f"put a field that contains {_NAMES.get(delimiter, repr(delimiter))} in double quotes",
                    row,
                ),
            )
        else:
            yield first_line, dict(zip(header, row, strict=True))


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


def _csv_fault(told: str, error: csv.Error) -> str:
    return NUL if "NUL" in str(error) else f"{told}: {error}"  # Python 3.10 reads no NUL


def _row_fault(row: list[str], encoding: str | None) -> str | None:
    for value in row:
        if wrong := wrong_byte(value, encoding):
            return wrong
        if "\0" in value:
            return NUL
    return None


def number_columns(rows: Iterable[Record]) -> dict[str, Callable[[str], int | float]]:
    """Find the columns of a CSV file whose values are numbers, every one of them but for empty ones.

    Returns:
        `int` or `float` by the column's name; the columns of text are left out.
    """
    kinds: dict[str, type[int] | type[float] | None] = {}
    for row in rows:
        if isinstance(row, Unreadable):
            continue
        for name, value in row.items():
            kind = kinds.get(name, int)
            if kind is not None and (stripped := value.strip()):
                kinds[name] = _number_kind(stripped, kind)
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _number_kind(value: str, so_far: type[int] | type[float]) -> type[int] | type[float] | None:
    if _integer.fullmatch(value):
        return so_far if so_far is int or len(value) <= _DECIMAL_DIGITS else None
    if _decimal.fullmatch(value) and sum(map(str.isdigit, value)) <= _DECIMAL_DIGITS:
        return float
    return None


def repeated_name(names: Iterable[str]) -> str | None:
    """Return the first name that occurs twice; None if none does."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
