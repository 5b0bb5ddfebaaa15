"""Rows of Parquet files as records. Every error of pyarrow becomes one that says what is wrong with the file or row."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from trivec.documents.records import Record, Unreadable, UnusableFileError, repeated_name
from trivec.support.extras import require

_ROWS_AT_ONCE = 1024


def read_parquet(file: Path, columns: Sequence[str] | None) -> Iterator[tuple[int, Record]]:
    """Yield each row's number, from 1, and its values by name; dates and decimals as text, as JSON has neither.

    Args:
        file: The file.
        columns: The columns to read, of those there are; None: all.

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
        number = 0
        for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            for record in _records(batch):
                number += 1
                yield number, record


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
def _opened(file: Path) -> Iterator[Any]:
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
