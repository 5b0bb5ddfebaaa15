"""What `M3Model.encode` and `encode_stream` take, in the combinations that decide which vectors a result has.

Only a type checker reads this: `model.encode(texts).dense` is an array to it, and `.colbert_vecs` None.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import Required, TypedDict


class Options(TypedDict, total=False):
    """What has no part in which vectors there are."""

    max_batch_tokens: int | None
    max_length: int | None
    normalize: bool
    mcls: int | None
    show_progress: bool


class Unknown(Options, total=False):
    """Which vectors there are is only known at run time."""

    return_dense: bool
    return_sparse: bool
    return_colbert_vecs: bool


class DenseAndSparse(Options, total=False):
    """What there is by default."""

    return_dense: Literal[True]
    return_sparse: Literal[True]
    return_colbert_vecs: Literal[False]


class AllThree(Options, total=False):
    """Token vectors besides."""

    return_dense: Literal[True]
    return_sparse: Literal[True]
    return_colbert_vecs: Required[Literal[True]]


class DenseOnly(Options, total=False):
    """Dense vectors alone."""

    return_dense: Literal[True]
    return_sparse: Required[Literal[False]]
    return_colbert_vecs: Literal[False]


class SparseOnly(Options, total=False):
    """Sparse vectors alone."""

    return_dense: Required[Literal[False]]
    return_sparse: Literal[True]
    return_colbert_vecs: Literal[False]


class ColbertOnly(Options, total=False):
    """Token vectors alone."""

    return_dense: Required[Literal[False]]
    return_sparse: Required[Literal[False]]
    return_colbert_vecs: Required[Literal[True]]


class DenseAndColbert(Options, total=False):
    """Dense and token vectors."""

    return_dense: Literal[True]
    return_sparse: Required[Literal[False]]
    return_colbert_vecs: Required[Literal[True]]


class SparseAndColbert(Options, total=False):
    """Sparse and token vectors."""

    return_dense: Required[Literal[False]]
    return_sparse: Literal[True]
    return_colbert_vecs: Required[Literal[True]]
