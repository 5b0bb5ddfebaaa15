"""Rows of Parquet files as records. Every error of pyarrow becomes one that says what is wrong with the file or row."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from trivec.documents.records import Record, Unreadable, UnusableFileError, repeated_name
from trivec.support.extras import require

_ROWS_AT_ONCE = 1024


def read_parquet(
    file: Path | BinaryIO, columns: Sequence[str] | None, rows: tuple[int, int] | None = None
) -> Iterator[tuple[int, Record]]:
    """Yield each row's number, from 1, and its values by name; dates and decimals as text, as JSON has neither.

    Args:
        file: The file, or a stream of it with `seek`.
        columns: The columns to read, of those there are; None: all.
        rows: The first row to read, counted from 0, and the one to end before; None: all.

    Raises:
        UnusableFileError: The file is damaged, or has two columns of one name.
        MissingExtraError: `pyarrow` is not installed.
    """
    with _opened(file) as parquet:
        names = parquet.schema_arrow.names
        if repeated := repeated_name(names):
            raise UnusableFileError(f"it has two columns called {repeated!r}: rename one")
        wanted = None if columns is None else [name for name in names if name in columns]
        if not wanted or any("." in name for name in names):  # pyarrow takes a dot for a field within a column
            wanted = None
        number, groups = 0, None
        if rows is not None:
            number, groups = _groups_with(parquet.metadata, *rows)
        for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted, row_groups=groups):
            if rows is not None:
                skipped = min(max(rows[0] - number, 0), batch.num_rows)
                batch = batch.slice(skipped, max(rows[1] - number - skipped, 0))  # noqa: PLW2901 - the rest of it
                number += skipped
            for record in _records(batch):
                number += 1
                yield number, record


def _groups_with(metadata: Any, start: int, stop: int) -> tuple[int, list[int]]:
    """Return the row groups that hold some of the rows, and how many rows lie before them."""
    before, end, groups = 0, 0, []
    for group in range(metadata.num_row_groups):
        begin, end = end, end + metadata.row_group(group).num_rows
        if end <= start:
            before = end
        elif begin < stop:
            groups.append(group)
    return before, groups


def _records(batch: Any) -> Iterator[Record]:
    try:
        rows = batch.to_pylist()
    except (OverflowError, ValueError):  # one value of the batch has no counterpart in Python
        for i in range(batch.num_rows):
            yield _record(batch.slice(i, 1))
        return
    yield from map(_json_values, rows)


def _record(row: Any) -> Record:
    """Return a batch of one row as a record, or the column that cannot be one."""
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            column.to_pylist()
        except UnicodeDecodeError:
            return Unreadable(f"the column {name!r} holds bytes that are not UTF-8")
        except (OverflowError, ValueError) as error:
            return Unreadable(f"the column {name!r} holds a {column.type} beyond what Python's dates reach ({error})")
    return _json_values(row.to_pylist()[0])


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[Any]:
    pa, pq = require("pyarrow"), require("pyarrow.parquet")
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    # Damage shows as any of these: thrift that makes no sense, sizes beyond memory, text that is none.
    except (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:  # the system's, not pyarrow's
            raise
        raise UnusableFileError(f"not a readable Parquet file: {error}") from error


def _json_values(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _json_value(value) for name, value in record.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(element) for element in value]
    if isinstance(value, dict):
        return {name: _json_value(element) for name, element in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
