"""The columns of encoded tables, with explicit Arrow types, and how a model's vectors become such columns.

    id, text, metadata    string; metadata is a JSON object
    dense                 fixed_size_list<float32>[dim]
    sparse                struct<indices: list<int32>, values: list<float32>>, indices ascending
    token_vectors         list<fixed_size_list<float16>[dim]> or, as int8, list<fixed_size_list<int8>[dim]>
    token_scales          list<float32>, with int8 only: a vector is its numbers times its scale
    truncated             bool: whether the text was longer than max_length and was cut

Lists' elements are called "element", as Parquet has it, so that a table is the same before it is written and after.

In files, a token vector is fixed_size_binary: its numbers as they lie in memory. Parquet has no int8 (it takes 4 bytes)
and marks each number of a nested list: writing vectors as such takes 20 times as long and up to 4 times the
space. `packed` and `unpacked` go from one to the other without copying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from trivec.support.extras import require
from trivec.vectors.embeddings import FloatArray, M3Embeddings
from trivec.vectors.token_forms import TokenForm
from trivec.vectors.token_storage import halved, quantized

VECTOR_COLUMNS = ("dense", "sparse", "token_vectors", "token_scales", "truncated")
# Offsets of Arrow's lists are 32 bits.
_MOST_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class Vectors:
    """Which vectors a table has.

    Attributes:
        dense: Whether dense ones.
        sparse: Whether sparse ones.
        token_vectors: How token vectors are stored; None: not at all.
        mcls: As `M3Model.encode` reads long texts with it.
    """

    dense: bool = True
    sparse: bool = True
    token_vectors: TokenForm | None = None
    mcls: int | None = None


def input_schema() -> Any:
    """The columns that documents are encoded from."""
    pa = require("pyarrow")
    return pa.schema([(name, pa.string()) for name in ("id", "text", "metadata")])


def vector_fields(vectors: Vectors, dims: Mapping[str, int]) -> list[Any]:
    """Return the Arrow fields that encoding adds.

    Args:
        vectors: Which vectors.
        dims: Their sizes, as `M3Model.dim`.
    """
    pa = require("pyarrow")
    fields = []
    if vectors.dense:
        fields.append(pa.field("dense", _fixed(pa.float32(), dims["dense"])))
    if vectors.sparse:
        fields.append(pa.field("sparse", _sparse_type()))
    form = vectors.token_vectors
    if form is not None:
        number = pa.float16() if form == "fp16" else pa.int8()
        fields.append(pa.field("token_vectors", _list(_fixed(number, dims["colbert_vecs"]))))
    if form == "int8":
        fields.append(pa.field("token_scales", _list(pa.float32())))
    return [*fields, pa.field("truncated", pa.bool_())]


def vector_arrays(embeddings: M3Embeddings, vectors: Vectors, dims: Mapping[str, int]) -> list[Any]:
    """Return the vectors of n texts as Arrow arrays of n, in the order of `vector_fields`.

    Raises:
        ValueError: They are more numbers than one Arrow array holds, or one cannot be stored.
    """
    pa = require("pyarrow")
    columns = []
    if embeddings.dense is not None:
        columns.append(_fixed_array(embeddings.dense, dims["dense"]))
    if embeddings.sparse is not None:
        ends = _offsets(np.diff(embeddings.sparse.indptr))
        indices = _list_array(ends, pa.array(embeddings.sparse.indices.astype(np.int32, copy=False)))
        values = _list_array(ends, pa.array(embeddings.sparse.data.astype(np.float32, copy=False)))
        columns.append(pa.StructArray.from_arrays([indices, values], fields=list(_sparse_type())))
    if embeddings.colbert_vecs is not None:
        columns += _token_arrays(embeddings.colbert_vecs, vectors.token_vectors, dims["colbert_vecs"])
    cut = np.zeros(len(embeddings), dtype=bool)
    cut[list(embeddings.cut)] = True
    return [*columns, pa.array(cut)]


def packed(table: Any) -> Any:
    """Return a table with its token vectors, if it has some, as list<fixed_size_binary>."""

    def pack(lists: Any) -> Any:
        pa = require("pyarrow")
        vectors = lists.flatten()
        numbers = vectors.flatten()
        width = numbers.type.bit_width // 8
        data = numbers.buffers()[1].slice(numbers.offset * width) if len(numbers) else pa.py_buffer(b"")
        kind = pa.binary(width * vectors.type.list_size)
        return _list_array(_starts(lists), pa.FixedSizeBinaryArray.from_buffers(kind, len(vectors), [None, data]))

    return _with_token_vectors(table, pack)


def unpacked(table: Any) -> Any:
    """Return a table that was read from a file with its token vectors, if it has some, as lists of numbers."""
    number = require("pyarrow").int8() if "token_scales" in table.schema.names else require("pyarrow").float16()

    def unpack(lists: Any) -> Any:
        pa = require("pyarrow")
        vectors = lists.flatten()
        width = vectors.type.byte_width
        count = len(vectors) * width * 8 // number.bit_width
        data = vectors.buffers()[1].slice(vectors.offset * width) if count else pa.py_buffer(b"")
        numbers = pa.Array.from_buffers(number, count, [None, data])
        size = width * 8 // number.bit_width
        return _list_array(_starts(lists), pa.FixedSizeListArray.from_arrays(numbers, type=_fixed(number, size)))

    return _with_token_vectors(table, unpack)


def packed_schema(schema: Any) -> Any:
    """Return the schema that `packed` gives a table of that schema."""
    return packed(schema.empty_table()).schema


def _with_token_vectors(table: Any, turn: Callable[[Any], Any]) -> Any:
    column = table.schema.get_field_index("token_vectors")
    if column < 0:
        return table
    pa = require("pyarrow")
    lists = table.column(column)
    chunks = lists.chunks or [pa.array([], lists.type)]
    turned = pa.chunked_array([turn(chunk) for chunk in chunks])
    return table.set_column(column, pa.field("token_vectors", turned.type), turned)


def _starts(lists: Any) -> Any:
    """Where lists begin, and the last one ends, in what `flatten` gives."""
    starts = np.asarray(lists.offsets)
    return starts - starts[0] if len(starts) else np.zeros(1, np.int32)


def _token_arrays(colbert_vecs: Sequence[FloatArray], form: TokenForm | None, dim: int) -> list[Any]:
    pa = require("pyarrow")
    ends = _offsets([len(of_text) for of_text in colbert_vecs])
    numbers = np.empty((ends[-1], dim), np.float16 if form == "fp16" else np.int8)
    scales = np.empty(ends[-1], np.float32)
    for of_text, (start, end) in zip(colbert_vecs, pairwise(ends), strict=True):
        if form == "fp16":
            numbers[start:end] = halved(of_text)
        else:
            numbers[start:end], scales[start:end] = quantized(of_text)
    columns = [_list_array(ends, _fixed_array(numbers, dim))]
    return columns if form == "fp16" else [*columns, _list_array(ends, pa.array(scales))]


def _list(element: Any) -> Any:
    pa = require("pyarrow")
    return pa.list_(pa.field("element", element))


def _fixed(number: Any, size: int) -> Any:
    pa = require("pyarrow")
    return pa.list_(pa.field("element", number), size)


def _sparse_type() -> Any:
    pa = require("pyarrow")
    return pa.struct([("indices", _list(pa.int32())), ("values", _list(pa.float32()))])


def _offsets(lengths: Any) -> Any:
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if ends[-1] > _MOST_ELEMENTS:
        raise ValueError(f"{ends[-1]:,} vectors in one table are more than Arrow's lists hold: pass fewer rows at once")
    return ends.astype(np.int32)


def _list_array(ends: Any, values: Any) -> Any:
    pa = require("pyarrow")
    return pa.ListArray.from_arrays(pa.array(ends), values, type=_list(values.type))


def _fixed_array(rows: Any, dim: int) -> Any:
    pa = require("pyarrow")
    numbers = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(numbers, type=_fixed(numbers.type, dim))
