"""Encoded tables straight into a collection of Milvus Lite, as the data files that it would write itself.

A row that goes through `upsert` becomes a protobuf message, a dict of Python floats, an Arrow row, and again a list of
Python floats before it is on disk. Milvus Lite runs in this process, and its data files are Parquet of nearly our
columns: a table is handed to its own flush in place of the rows it collected. Everything else stays its own: sequence
numbers, which let a newer row take the place of an older one with the same id, the manifest that makes a file count by
one rename, compaction and indexes. Where another version of Milvus Lite has these parts no longer, `loader` says so.
"""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import Any

import numpy as np

from trivec.bulk.layout import TOKENS, packed_sparse, token_matrices
from trivec.bulk.partition_key import PartitionKey
from trivec.milvus import lite_server
from trivec.milvus.token_field import TokenField
from trivec.support.extras import require
from trivec.vectors.pooling import pooled

# Rows of a data file, as many as Milvus Lite's own hold at most after compaction ...
_MOST_ROWS = 100_000
# ... or the rows that reach this many bytes, where Milvus Lite flushes by itself.
_MOST_BYTES = 128 * 2**20


def loader(
    path: str, collection: str, partition_key: PartitionKey | None, placeholder: int, tokens: TokenField | None = None
) -> LiteLoader | None:
    """Return what loads tables into a collection of a file that this process has open; None if it cannot be done so.

    Args:
        path: The absolute path of the Milvus Lite file.
        collection: The collection's name.
        partition_key: The field that it is partitioned by.
        placeholder: The token id that stands in a row without lexical weights.
        tokens: How it keeps token vectors; None where it keeps none.
    """
    database = lite_server.database(path)
    try:
        builder = import_module("milvus_lite.schema.arrow_builder").build_data_schema
        engine = database.get_collection(collection)
        parts = (engine._memtable.flush, engine._next_seq, engine._trigger_flush, engine._memtable.max_seq)
        schema = builder(engine.schema)
    except (ImportError, AttributeError):
        return None
    del parts
    expected = {"_seq", "id", "text", "dense", "sparse", "$meta"} | ({partition_key.name} if partition_key else set())
    expected |= set() if tokens is None else {TOKENS}
    return LiteLoader(engine, schema, partition_key, placeholder, tokens) if set(schema.names) == expected else None


class LiteLoader:
    """Puts tables into a collection; what was collected there before is written first. Not for several threads."""

    def __init__(
        self, engine: Any, schema: Any, partition_key: PartitionKey | None, placeholder: int, tokens: TokenField | None
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._partition_key = partition_key
        self._placeholder = placeholder
        self._tokens = tokens
        self._waiting: list[Any] = []
        self._rows = self._bytes = 0

    def load(self, table: Any) -> None:
        """Take the rows of a table in trivec's layout, each of which can be stored (`trivec.bulk.layout.checked`).

        They are in the collection after `finish`, or as soon as they are many.
        """
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= _MOST_ROWS or self._bytes >= _MOST_BYTES:
            self.finish()

    def finish(self) -> None:
        """Write what waits as one data file, or one a partition; from then on it is found, also after a crash."""
        pa = require("pyarrow")
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting, self._rows, self._bytes = [], 0, 0
        table = _last_of_each(table)
        engine = self._engine
        engine.flush()  # rows that it holds in memory are looked up before those in files, whatever their age
        first = engine._next_seq
        engine._next_seq = first + table.num_rows
        rows = pa.table(self._columns(table, first), schema=self._schema)
        engine._memtable = _Flushed(self._partitioned(rows), first + table.num_rows - 1)
        engine._trigger_flush()

    def _columns(self, table: Any, first: int) -> list[Any]:
        pa = require("pyarrow")
        metadata = [json.loads(text or "{}") for text in table.column("metadata").to_pylist()]
        columns = {
            "_seq": pa.array(np.arange(first, first + table.num_rows, dtype=np.uint64)),
            "id": table.column("id").cast(pa.string()),
            "text": table.column("text").cast(pa.string()),
            "dense": table.column("dense").cast(self._schema.field("dense").type),
            "sparse": packed_sparse(table.column("sparse"), self._placeholder),
        }
        if (key := self._partition_key) is not None:
            ids = table.column("id").to_pylist()
            values = [key.value(fields, each) for fields, each in zip(metadata, ids, strict=True)]
            columns[key.name] = pa.array(values, self._schema.field(key.name).type)
            for fields in metadata:
                del fields[key.name]
        if self._tokens is not None:
            columns[TOKENS] = pa.array(self._token_values(table), pa.string())
        columns["$meta"] = pa.array([json.dumps(fields, sort_keys=True) if fields else None for fields in metadata])
        return [columns[name].cast(self._schema.field(name).type) for name in self._schema.names]

    def _token_values(self, table: Any) -> list[str | None]:
        """Return what each row holds in the field for token vectors: JSON, or nothing where the table has none."""
        if self._tokens is None or TOKENS not in table.schema.names:
            return [None] * table.num_rows
        texts = table.column("text").to_pylist()
        values = (
            self._tokens.value(text, pooled(vectors, self._tokens.pool))
            for text, vectors in zip(texts, token_matrices(table), strict=True)
        )
        return [json.dumps(value) for value in values]

    def _partitioned(self, rows: Any) -> dict[str, Any]:
        """Return the rows by the partition that they belong into."""
        pa = require("pyarrow")
        if self._partition_key is None:
            return {"_default": rows}
        values = rows.column(self._partition_key.name).to_pylist()
        buckets = np.array([_bucket(value, self._engine._num_partition_buckets) for value in values])
        return {f"_pk_{each}": rows.filter(pa.array(buckets == each)) for each in np.unique(buckets)}


class _Flushed:
    """Stands where Milvus Lite has the rows it collected, for the one flush that writes them."""

    def __init__(self, tables: dict[str, Any], max_seq: int) -> None:
        self._tables = tables
        self.max_seq = max_seq

    def flush(self, known_partitions: list[str] | None = None) -> dict[str, tuple[Any, None]]:
        """Return the rows of each partition, and no deletions."""
        return {partition: (table, None) for partition, table in self._tables.items()}


def _bucket(value: object, buckets: int) -> int:
    """Return the number of the partition that Milvus Lite puts a value of the partition key into."""
    return int(hashlib.md5(str(value).encode(), usedforsecurity=False).hexdigest(), 16) % buckets


def _last_of_each(table: Any) -> Any:
    """Return a table without the rows whose id comes again further down."""
    last = {identifier: row for row, identifier in enumerate(table.column("id").to_pylist())}
    return table if len(last) == table.num_rows else table.take(sorted(last.values()))
