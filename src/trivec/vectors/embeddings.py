"""What encoding returns: the vectors of one text, or of many. Knows nothing about how they came to be."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, overload

import numpy as np
import numpy.typing as npt

from trivec.vectors.sparse import SparseMatrix

T = TypeVar("T")

FloatArray = npt.NDArray[np.float32]

# To a type checker each kind of vectors is there, None, or (by default) either: `M3Model.encode` says which.
if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    Dense_co = TypeVarWithDefault("Dense_co", default=FloatArray | None, covariant=True)
    Sparse_co = TypeVarWithDefault("Sparse_co", default=SparseMatrix | None, covariant=True)
    Colbert_co = TypeVarWithDefault("Colbert_co", default=FloatArray | None, covariant=True)
    ColbertVecs_co = TypeVarWithDefault("ColbertVecs_co", default=list[FloatArray] | None, covariant=True)
else:
    Dense_co, Sparse_co, Colbert_co, ColbertVecs_co = map(
        TypeVar, ("Dense_co", "Sparse_co", "Colbert_co", "ColbertVecs_co")
    )

KINDS = ("dense", "sparse", "colbert_vecs")
# What FlagEmbedding and others call the kinds of vectors.
_OTHER_NAMES = {"dense_vecs": "dense", "lexical_weights": "sparse", "sparse_vecs": "sparse", "colbert": "colbert_vecs"}


@dataclass(frozen=True, eq=False, repr=False)
class M3Embedding(Generic[Dense_co, Sparse_co, Colbert_co]):
    """The vectors of one text; those not asked for are None.

    Attributes:
        dense: (dim,) float32.
        sparse: 1 x vocabulary, float32.
        colbert_vecs: (tokens - 1, dim) float32, a vector for each token but `<s>`.
        truncated: Whether the text had more than `max_length` tokens and was cut to it.
    """

    dense: Dense_co
    sparse: Sparse_co
    colbert_vecs: Colbert_co
    truncated: bool = False

    __iter__ = None  # else Python would take what follows for a sequence's

    def __getitem__(self, key: object) -> NoReturn:
        raise KeyError(f"M3Embedding is no dict, so it has no {key!r}: {_attribute(key)}")

    def __repr__(self) -> str:
        return f"<M3Embedding: {_described(vars(self))}>"


@dataclass(frozen=True, eq=False, repr=False)
class M3Embeddings(Generic[Dense_co, Sparse_co, ColbertVecs_co]):
    """The vectors of n texts, in their order; those not asked for are None.

    Attributes:
        dense: (n, dim) float32.
        sparse: n x vocabulary, float32.
        colbert_vecs: n arrays of (tokens - 1, dim) float32.
        cut: Indices of the texts that had more than `max_length` tokens and were cut to it.
    """

    dense: Dense_co
    sparse: Sparse_co
    colbert_vecs: ColbertVecs_co
    cut: frozenset[int] = frozenset()

    @property
    def truncated(self) -> int:
        """How many of the texts were cut."""
        return len(self.cut)

    def __len__(self) -> int:
        for vectors in (self.dense, self.sparse, self.colbert_vecs):
            if vectors is not None:
                return len(vectors)  # type: ignore[arg-type]  # every kind of vectors has a length
        return 0

    @overload
    def __getitem__(
        self: M3Embeddings[Dense_co, Sparse_co, None], i: int
    ) -> M3Embedding[Dense_co, Sparse_co, None]: ...

    @overload
    def __getitem__(
        self: M3Embeddings[Dense_co, Sparse_co, list[FloatArray]], i: int
    ) -> M3Embedding[Dense_co, Sparse_co, FloatArray]: ...

    @overload
    def __getitem__(self, i: int) -> M3Embedding[Dense_co, Sparse_co, FloatArray | None]: ...

    def __getitem__(self, i: int) -> M3Embedding[Any, Any, Any]:
        if isinstance(i, str):
            raise KeyError(f"M3Embeddings is no dict, so it has no {i!r}: {_attribute(i)}")
        i = operator.index(i)  # a slice is refused rather than taken for one text
        dense, sparse, colbert_vecs = (None if of_all is None else of_all[i] for of_all in map(vars(self).get, KINDS))
        return M3Embedding(dense, sparse, colbert_vecs, i % len(self) in self.cut)

    @overload
    def __iter__(self: M3Embeddings[Dense_co, Sparse_co, None]) -> Iterator[M3Embedding[Dense_co, Sparse_co, None]]: ...

    @overload
    def __iter__(
        self: M3Embeddings[Dense_co, Sparse_co, list[FloatArray]],
    ) -> Iterator[M3Embedding[Dense_co, Sparse_co, FloatArray]]: ...

    @overload
    def __iter__(self) -> Iterator[M3Embedding[Dense_co, Sparse_co, FloatArray | None]]: ...

    def __iter__(self) -> Iterator[M3Embedding[Any, Any, Any]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<M3Embeddings of {_texts(len(self))}: {_described(vars(self))}>"


class EncodedTexts(dict[str, Any]):
    """Vectors of n texts as `BGEM3EmbeddingFunction` gives them; only the keys that were asked for are there.

    "dense": n arrays of (dim,) float32; "sparse": n x vocabulary, float32; "colbert_vecs": n arrays of
    (tokens - 1, dim) float32.
    """

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["dense", "colbert_vecs"]) -> list[FloatArray]: ...

        @overload
        def __getitem__(self, key: Literal["sparse"]) -> SparseMatrix: ...

        @overload
        def __getitem__(self, key: str) -> Any: ...

        def __getitem__(self, key: str) -> Any: ...

    def __missing__(self, key: object) -> NoReturn:
        if key in KINDS:
            raise KeyError(f"no {key!r}, as it was not asked for: give BGEM3EmbeddingFunction return_{key}=True")
        near = _OTHER_NAMES.get(str(key))
        raise KeyError(f"no {key!r}: " + (f"take {near!r}" if near else f"the keys are {', '.join(map(repr, self))}"))

    def __repr__(self) -> str:
        n = next((len(vectors) for vectors in self.values()), 0)
        return f"<EncodedTexts of {_texts(n)}: {_described(self)}>"


def asked_for(vectors: T | None) -> T:
    """Return vectors of a kind that the model was asked for, which therefore cannot be None."""
    if vectors is None:
        raise TypeError("the model returned no vectors of a kind that was asked for")
    return vectors


def _attribute(key: object) -> str:
    name = _OTHER_NAMES.get(str(key), str(key))
    return f"take .{name}" if name in KINDS else f"it has {', '.join('.' + kind for kind in KINDS)}"


def _texts(n: int) -> str:
    return "1 text" if n == 1 else f"{n:,} texts"


def _described(vectors: Mapping[str, Any]) -> str:
    """Name the vectors that are there, and their sizes."""
    there = {kind: vectors[kind] for kind in KINDS if vectors.get(kind) is not None}
    return ", ".join(f"{kind} {_size(of_kind)}" for kind, of_kind in there.items())


def _size(vectors: Any) -> str:
    if isinstance(vectors, SparseMatrix):
        return f"{vectors.shape[0]} x {vectors.shape[1]} ({vectors.nnz:,} weights)"
    if isinstance(vectors, list):
        if not vectors:
            return "0 arrays"
        lengths = [len(array) for array in vectors]
        if vectors[0].ndim == 1:
            return f"{len(vectors)} x {lengths[0]}"
        tokens = f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
        return f"{len(vectors)} x {tokens} x {vectors[0].shape[1]}"
    return " x ".join(map(str, vectors.shape))
