"""Encoded tables in the columns that a Milvus server's bulk import reads from Parquet files, and back.

    trivec's (`trivec.shards`)                          Milvus' (what pymilvus' own `LocalBulkWriter` writes)

    id, text        string                              id, text         string
    dense           fixed_size_list<float32>[dim]       dense            list<float32>
    sparse          struct<indices: list, values: list> sparse           string: {"17": 0.25, ...}
    token_vectors   list<fixed_size_list<float16|int8>> token_vectors    list<struct<vector: list<float32>>>
    token_scales    list<float32>, with int8
    metadata        string: a JSON object               $meta            string: a JSON object

A partition key is a column of its own there, no part of "$meta". Sparse vectors are JSON, which every server since 2.4
reads; as a struct only servers since 2.6 (and late 2.5) do, of which some take the vectors for one dimension too small.
Compressed, both take the same space. Rows whose text is blank are left out, as a collection holds none.

The functions are pure; they know nothing of files, models or connections.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trivec.bulk.limits import Limits, check, is_blank
from trivec.bulk.partition_key import PartitionKey
from trivec.documents import Document, DocumentError, MetadataError
from trivec.support.extras import require
from trivec.vectors.embeddings import FloatArray

# The dynamic field, and the vector within each struct of a text's token vectors.
META, TOKENS, TOKEN_VECTOR = "$meta", "token_vectors", "vector"

# The weight of the one entry of a row without lexical weights, see `trivec.milvus.rows.row`.
_PLACEHOLDER_WEIGHT = 1.0

# Parquet's compression of the columns that are text; vectors do not get smaller.
COMPRESSED = ("id", "text", "sparse", META)


@dataclass(frozen=True)
class Layout:
    """In which columns encoded tables are written.

    Attributes:
        for_milvus: Whether in Milvus' layout, with both dense and sparse vectors; else in trivec's own.
        partition_key: The field of metadata that gets a column of its own there, as `PartitionKey.parse` reads it.
    """

    for_milvus: bool = False
    partition_key: str | None = None

    def schema(self, *, token_vectors: bool) -> Any:
        """Return the Arrow schema of `of`'s tables in Milvus' layout."""
        return milvus_schema(token_vectors=token_vectors, partition_key=self._key)

    def of(self, table: Any) -> Any:
        """Return an encoded table in Milvus' layout; raises as `to_milvus`."""
        return to_milvus(table, partition_key=self._key)

    @property
    def _key(self) -> PartitionKey | None:
        return None if self.partition_key is None else PartitionKey.parse(self.partition_key)


def is_milvus_layout(schema: Any) -> bool:
    """Return whether a `pyarrow.Schema` is that of Milvus' layout, not trivec's."""
    pa = require("pyarrow")
    return "dense" in schema.names and pa.types.is_list(schema.field("dense").type)


def missing_columns(schema: Any) -> list[str]:
    """Return the columns without which a table, in either layout, cannot become rows of a collection."""
    return [name for name in ("id", "text", "dense", "sparse") if name not in schema.names]


def milvus_schema(
    *, token_vectors: bool = False, partition_key: PartitionKey | None = None, numbers: Any = np.float32
) -> Any:
    """Return the Arrow schema of `to_milvus`'s tables; `numbers` are those of token vectors: of 4, 2 or 1 bytes."""
    pa = require("pyarrow")
    fields = [("id", pa.string()), ("text", pa.string()), ("dense", pa.list_(pa.float32())), ("sparse", pa.string())]
    if token_vectors:
        fields.append((TOKENS, pa.list_(pa.struct([(TOKEN_VECTOR, pa.list_(_stored(np.dtype(numbers))))]))))
    if partition_key is not None:
        fields.append((partition_key.name, pa.int64() if partition_key.whole_numbers else pa.string()))
    return pa.schema([*fields, (META, pa.string())])


def to_milvus(
    table: Any,
    *,
    partition_key: PartitionKey | None = None,
    placeholder: int = 0,
    tokens: Callable[[str, FloatArray], Any] | None = None,
    numbers: Any = np.float32,
) -> Any:
    """Return an encoded table in Milvus' layout.

    Args:
        table: A `pyarrow.Table` in trivec's layout, with id, text, dense and sparse at least.
        partition_key: The field of metadata that gets a column of its own.
        placeholder: The token id that stands in a row without lexical weights, at which no query has weight: that of
            `<s>`, 0 in every model of BGE-M3's layout.
        tokens: Gives what is kept of a text's (t, dim) float32 token vectors, (u, dim) of `numbers`. None: them.
        numbers: float32, float16 (which Milvus takes as bytes) or int8.

    Raises:
        DocumentError: A row cannot be stored, see `checked`.
        MetadataError: As `checked`; or a row has no value of the partition key's type.
    """
    pa = require("pyarrow")
    table = checked(table)
    schema = milvus_schema(token_vectors=TOKENS in table.schema.names, partition_key=partition_key, numbers=numbers)
    columns = {name: table.column(name).cast(pa.string()) for name in ("id", "text")}
    columns["dense"] = _plain_lists(table.column("dense"))
    columns["sparse"] = _as_json(table.column("sparse"), placeholder)
    if TOKENS in table.schema.names:
        matrices = token_matrices(table)
        if tokens is not None:
            texts = table.column("text").to_pylist()
            matrices = [tokens(text, vectors) for text, vectors in zip(texts, matrices, strict=True)]
        columns[TOKENS] = _token_structs(matrices, np.dtype(numbers))
    metadata = _metadata(table)
    if partition_key is not None:
        values, left = [], []
        for identifier, text in zip(table.column("id").to_pylist(), metadata, strict=True):
            fields = json.loads(text)
            values.append(partition_key.value(fields, identifier))
            del fields[partition_key.name]
            left.append(json.dumps(fields, ensure_ascii=False))
        columns[partition_key.name], metadata = values, left
    columns[META] = pa.array(metadata, pa.string())
    return pa.table([columns[name] for name in schema.names], schema=schema)


def from_milvus(table: Any) -> Any:
    """Return a table in Milvus' layout in trivec's: id, text, metadata, dense, sparse and, as float16, token vectors.

    Sparse vectors may be JSON (as pairs, or as {"indices": [...], "values": [...]}) or structs. Columns of other names
    become metadata, as a partition key's.
    """
    pa = require("pyarrow")
    dense = _combined(table.column("dense"))
    dim = len(dense[0]) if len(dense) else 1
    columns = {
        "id": table.column("id"),
        "text": table.column("text"),
        "metadata": pa.array(_joined_metadata(table), pa.string()),
        "dense": pa.FixedSizeListArray.from_arrays(dense.flatten().cast(pa.float32()), dim),
    }
    sparse = _combined(table.column("sparse"))
    columns["sparse"] = sparse if pa.types.is_struct(sparse.type) else _from_json(sparse.to_pylist())
    if TOKENS in table.schema.names:
        lists = _combined(table.column(TOKENS))
        vectors = lists.flatten().field(TOKEN_VECTOR)
        numbers = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float16)
        size = len(numbers) // max(len(vectors), 1) or dim
        columns[TOKENS] = pa.ListArray.from_arrays(
            _offsets(lists), pa.FixedSizeListArray.from_arrays(pa.array(numbers), size)
        )
    return pa.table(columns)


def checked(table: Any, limits: Limits | None = None) -> Any:
    """Return a table in trivec's layout without the rows whose text is blank; each of the others can be stored.

    Raises:
        DocumentError: An id or text is missing or too long, or a dense vector has another size or no finite numbers.
        MetadataError: Metadata is no JSON object, too long, or uses the name of a field.
    """
    pa = require("pyarrow")
    texts = table.column("text").to_pylist()
    kept = pa.array([text is None or not is_blank(text) for text in texts], pa.bool_())
    table = table.filter(kept)
    ids, texts = table.column("id").to_pylist(), table.column("text").to_pylist()
    for identifier, text, metadata in zip(ids, texts, _metadata(table), strict=True):
        if identifier is None or text is None:
            raise DocumentError(f"document {identifier or text or ''!r:.80} has no {'text' if text is None else 'id'}")
        check(Document(identifier, text, _object(metadata, identifier)), limits or Limits())
    dense = _combined(table.column("dense"))
    numbers = dense.flatten().to_numpy(zero_copy_only=False)
    if dense.null_count or len(numbers) != len(dense) * dense.type.list_size or not np.isfinite(numbers).all():
        raise DocumentError("a dense vector is missing or holds a number that is not finite: encode it again")
    return table


def packed_sparse(column: Any, placeholder: int) -> Any:
    """Return sparse vectors as `pyarrow` binaries: pairs of uint32 and float32, little-endian, by ascending index.

    Args:
        column: Sparse vectors as structs.
        placeholder: The index of the one entry that stands for none.
    """
    pa = require("pyarrow")
    ends, indices, weights = _filled(column, placeholder)
    pairs = np.empty(len(indices), dtype=[("index", "<u4"), ("weight", "<f4")])
    pairs["index"], pairs["weight"] = indices, weights
    # A row's indices ascend already where the encoder made them; a file may come from elsewhere.
    row_numbers = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    order = np.lexsort((indices, row_numbers))
    offsets = pa.py_buffer((ends * pairs.itemsize).astype(np.int32))
    return pa.Array.from_buffers(pa.binary(), len(ends) - 1, [None, offsets, pa.py_buffer(pairs[order])])


def _as_json(column: Any, placeholder: int) -> Any:
    """Return sparse vectors as {"index": weight, ...}, with the digits that tell float32 values apart."""
    pa, pc = require("pyarrow"), require("pyarrow.compute")
    ends, indices, weights = _filled(column, placeholder)
    names = pa.array(indices).cast(pa.string())
    numbers = pa.array(weights).cast(pa.string())
    pairs = pc.binary_join_element_wise('"', names, '": ', numbers, "")
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pairs), ", ")
    return pc.binary_join_element_wise("{", joined, "}", "")


def _filled(column: Any, placeholder: int) -> tuple[Any, Any, Any]:
    """Return where each row's entries end, (n + 1,), and all indices and weights, one entry in rows that had none."""
    structs = _combined(column)
    indices = _combined(structs.field("indices"))
    weights = structs.field("values").flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    ends = _offsets(indices).to_numpy().astype(np.int64)
    numbers = indices.flatten().to_numpy(zero_copy_only=False).astype(np.uint32)
    empty = np.flatnonzero(np.diff(ends) == 0)
    if len(empty):
        numbers = np.insert(numbers, ends[empty], np.uint32(placeholder))
        weights = np.insert(weights, ends[empty], np.float32(_PLACEHOLDER_WEIGHT))
        ends = ends + np.searchsorted(empty, np.arange(len(ends)), side="left")
    return ends, numbers, weights


def _from_json(texts: list[str]) -> Any:
    pa = require("pyarrow")
    indices: list[list[int]] = []
    weights: list[list[float]] = []
    for text in texts:
        vector = json.loads(text)
        if vector.keys() == {"indices", "values"}:
            pairs = sorted(zip(vector["indices"], vector["values"], strict=True))
        else:
            pairs = sorted((int(index), weight) for index, weight in vector.items())
        indices.append([index for index, _ in pairs])
        weights.append([weight for _, weight in pairs])
    return pa.StructArray.from_arrays(
        [pa.array(indices, pa.list_(pa.int32())), pa.array(weights, pa.list_(pa.float32()))], ["indices", "values"]
    )


def _plain_lists(column: Any) -> Any:
    pa = require("pyarrow")
    fixed = _combined(column)
    ends = np.arange(len(fixed) + 1, dtype=np.int32) * fixed.type.list_size
    return pa.ListArray.from_arrays(pa.array(ends), fixed.flatten())


def token_matrices(table: Any) -> list[FloatArray]:
    """Return the token vectors of each row of a table in trivec's layout, in either form, as (t, dim) float32."""
    pa = require("pyarrow")
    lists = _combined(table.column(TOKENS))
    vectors = lists.flatten()
    size = vectors.type.list_size
    numbers = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, size)
    if pa.types.is_int8(vectors.type.value_type):
        numbers *= _combined(table.column("token_scales")).flatten().to_numpy(zero_copy_only=False)[:, None]
    return np.split(numbers, _offsets(lists).to_numpy()[1:-1]) if len(lists) else []


def _token_structs(matrices: Sequence[Any], numbers: np.dtype[Any]) -> Any:
    """Return token vectors, (t, dim) of `numbers` a row, as lists of structs that hold a plain list."""
    pa = require("pyarrow")
    stored = _stored(numbers)
    flat = np.concatenate(
        [np.empty(0, numbers), *(np.ascontiguousarray(each, numbers).reshape(-1) for each in matrices)]
    )
    values = pa.array(flat.view(stored.to_pandas_dtype()))
    ends = np.cumsum([0, *(len(each) for each in matrices)])
    size = len(values) // max(int(ends[-1]), 1)
    vectors = pa.ListArray.from_arrays(pa.array(np.arange(ends[-1] + 1) * size, pa.int32()), values)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays([vectors], [TOKEN_VECTOR]))


def _stored(numbers: np.dtype[Any]) -> Any:
    """Return the Arrow type in which Milvus takes numbers: those of 2 bytes as bytes."""
    pa = require("pyarrow")
    return pa.uint8() if numbers == np.float16 else pa.from_numpy_dtype(numbers)


def _metadata(table: Any) -> list[str]:
    if "metadata" not in table.schema.names:
        return ["{}"] * table.num_rows
    return [text or "{}" for text in table.column("metadata").to_pylist()]


def _joined_metadata(table: Any) -> list[str]:
    """Return "$meta" and the columns that are metadata too, as one JSON object a row."""
    known = {"id", "text", "dense", "sparse", TOKENS, META}
    others = {name: table.column(name).to_pylist() for name in table.schema.names if name not in known}
    texts = table.column(META).to_pylist() if META in table.schema.names else [None] * table.num_rows
    if not others:
        return [text or "{}" for text in texts]
    return [
        json.dumps(
            json.loads(text or "{}") | {name: column[row] for name, column in others.items()}, ensure_ascii=False
        )
        for row, text in enumerate(texts)
    ]


def _object(text: str, identifier: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MetadataError(f"document {identifier[:80]!r}: its metadata is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise MetadataError(f"document {identifier[:80]!r}: its metadata is {type(found).__name__}, no object")
    return found


def _offsets(lists: Any) -> Any:
    """Return where the lists of an array end in its `flatten()`, also where it is part of another."""
    pa, pc = require("pyarrow"), require("pyarrow.compute")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _combined(column: Any) -> Any:
    """Return a chunked column as one array."""
    pa = require("pyarrow")
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
