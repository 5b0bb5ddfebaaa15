"""A Parquet file that carries its own checksum: one rename makes it appear together with what proves it whole.

The footer's metadata says what made the file ("trivec.shard", JSON) and holds the SHA-256 of all the file's bytes,
with zeros where that digest stands ("trivec.sha256"). Knows nothing about texts or models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO

from trivec.support.extras import require

MADE_BY = b"trivec.shard"
_DIGEST = b"trivec.sha256"
_NO_DIGEST = b"0" * 64
_BLOCK = 1 << 20
# At the end of a Parquet file: the length of its footer in 4 bytes, then "PAR1".
_TAIL = 8


class DamagedFileError(Exception):
    """A file is not what was written; the message says in what way."""


class ShardWriter:
    """Writes tables to a stream as one Parquet file with its checksum; to be left as a context manager.

    Args:
        stream: Takes the bytes, in order.
        schema: The tables' Arrow schema.
        made_by: What to say in the file about how it was made; JSON's types, nothing that differs from run to run.

    Attributes:
        rows: How many rows were written so far.
    """

    def __init__(self, stream: BinaryIO, schema: Any, made_by: Mapping[str, Any]) -> None:
        self.rows = 0
        self._sink = _DigestingSink(stream)
        pa = require("pyarrow")
        plain = [field.name for field in schema if pa.types.is_string(field.type)]
        compression = dict.fromkeys(plain, "zstd")
        self._parquet = require("pyarrow.parquet").ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema,
            use_dictionary=False,  # vectors do not repeat
            compression=compression or "none",
            write_statistics=[name for name in plain if name == "id"],
            store_schema=True,
        )
        self._parquet.add_key_value_metadata({MADE_BY: json.dumps(made_by, sort_keys=True), _DIGEST: _NO_DIGEST})

    def write(self, table: Any) -> None:
        """Write a table as one row group."""
        self._parquet.write_table(table, row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self._sink.hold()
        self._parquet.close()
        if kind is None:
            self._sink.finish()


class _DigestingSink:
    """Passes bytes on and digests them; those of the footer are held back until the digest can be put among them."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._held: list[bytes] | None = None
        self._position = 0

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._position += len(data)
        if self._held is not None:
            self._held.append(data)
        else:
            self._digest.update(data)
            self._stream.write(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def hold(self) -> None:
        self._held = []

    def finish(self) -> None:
        footer = b"".join(self._held or ())
        self._digest.update(footer)
        before, found, after = footer.rpartition(_NO_DIGEST)
        if not found:
            raise AssertionError("the footer was written before it was held")
        self._stream.write(before + self._digest.hexdigest().encode() + after)


def made_by(stream: BinaryIO) -> dict[str, Any]:
    """Return what a file says about how it was made; empty if it is no file of ours.

    Raises:
        DamagedFileError: It is no Parquet file.
        OSError: It cannot be read.
    """
    metadata = _metadata(stream)
    try:
        said = json.loads(metadata.get(MADE_BY, b"{}"))
    except ValueError as error:
        raise DamagedFileError(f"what it says of how it was made is no JSON ({error})") from error
    return said if isinstance(said, dict) else {}


def verify(stream: BinaryIO) -> None:
    """Read a file and hold it against its checksum.

    Args:
        stream: The file, with `seek`.

    Raises:
        DamagedFileError: It is another, or is incomplete, or has no checksum.
        OSError: It cannot be read.
    """
    recorded = _metadata(stream).get(_DIGEST)
    if recorded is None:
        raise DamagedFileError("it has no checksum: trivec did not write it")
    size = stream.seek(0, 2)
    stream.seek(size - _TAIL)
    footer = int.from_bytes(stream.read(4), "little") + _TAIL
    stream.seek(0)
    digest = hashlib.sha256()
    left = size - footer
    while left > 0:
        block = stream.read(min(left, _BLOCK))
        if not block:
            raise DamagedFileError("it ends early")
        digest.update(block)
        left -= len(block)
    end = stream.read()
    before, found, after = end.rpartition(recorded)
    digest.update(before + _NO_DIGEST + after)
    if not found or digest.hexdigest().encode() != recorded:
        raise DamagedFileError("its bytes are not those of its checksum")


def _metadata(stream: BinaryIO) -> Mapping[bytes, bytes]:
    pa, pq = require("pyarrow"), require("pyarrow.parquet")
    try:
        stream.seek(0)
        return pq.read_metadata(stream).metadata or {}
    except (pa.ArrowException, OSError, MemoryError, OverflowError, ValueError) as error:
        if getattr(error, "errno", None) is not None:  # the system's, not pyarrow's
            raise
        raise DamagedFileError(f"it is no readable Parquet file ({' '.join(str(error).split())})") from error
