"""What encoding returns: the vectors of one text, or of many. Knows nothing about how they came to be."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trivec.sparse import SparseMatrix

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class M3Embedding:
    """The vectors of one text; those not asked for are None.

    Attributes:
        dense: (dim,) float32.
        sparse: 1 x vocabulary, float32.
        colbert_vecs: (tokens - 1, dim) float32, a vector for each token but `<s>`.
    """

    dense: FloatArray | None
    sparse: SparseMatrix | None
    colbert_vecs: FloatArray | None


@dataclass(frozen=True, eq=False)
class M3Embeddings:
    """The vectors of n texts, in their order; those not asked for are None.

    Attributes:
        dense: (n, dim) float32.
        sparse: n x vocabulary, float32.
        colbert_vecs: n arrays of (tokens - 1, dim) float32.
    """

    dense: FloatArray | None
    sparse: SparseMatrix | None
    colbert_vecs: list[FloatArray] | None

    def __len__(self) -> int:
        for vectors in (self.dense, self.sparse, self.colbert_vecs):
            if vectors is not None:
                return len(vectors)
        return 0

    def __getitem__(self, i: int) -> M3Embedding:
        i = operator.index(i)  # a slice is refused rather than taken for one text
        return M3Embedding(
            None if self.dense is None else self.dense[i],
            None if self.sparse is None else self.sparse[i],
            None if self.colbert_vecs is None else self.colbert_vecs[i],
        )

    def __iter__(self) -> Iterator[M3Embedding]:
        return (self[i] for i in range(len(self)))
