"""The columns of encoded tables, with explicit Arrow types, and how a model's vectors become such columns.

    id, text, metadata    string; metadata is a JSON object
    dense                 fixed_size_list<float32>[dim]
    sparse                struct<indices: list<int32>, values: list<float32>>, indices ascending
    token_vectors         list<fixed_size_list<float16>[dim]> or, as int8, list<fixed_size_list<int8>[dim]>
    token_scales          list<float32>, with int8 only: a vector is its numbers times its scale
    truncated             bool: whether the text was longer than max_length and was cut

Lists' elements are called "element", as Parquet has it, so that a table is the same before it is written and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trivec.support.extras import require
from trivec.vectors.embeddings import FloatArray, M3Embeddings
from trivec.vectors.token_storage import TokenForm, halved, quantized

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
    """

    dense: bool = True
    sparse: bool = True
    token_vectors: TokenForm | None = None


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


def _token_arrays(colbert_vecs: Sequence[FloatArray], form: TokenForm | None, dim: int) -> list[Any]:
    pa = require("pyarrow")
    ends = _offsets([len(of_text) for of_text in colbert_vecs])
    if form == "fp16":
        halves = [halved(of_text) for of_text in colbert_vecs]
        return [_list_array(ends, _fixed_array(np.concatenate([*halves, np.empty((0, dim), np.float16)]), dim))]
    rounded = [quantized(of_text) for of_text in colbert_vecs]
    numbers = np.concatenate([*(numbers for numbers, _ in rounded), np.empty((0, dim), np.int8)])
    scales = np.concatenate([*(scales for _, scales in rounded), np.empty(0, np.float32)])
    return [_list_array(ends, _fixed_array(numbers, dim)), _list_array(ends, pa.array(scales))]


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
