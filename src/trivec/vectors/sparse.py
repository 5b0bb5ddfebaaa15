"""The sparse vectors: lexical weights pooled per token id, in a CSR matrix whose rows stay two-dimensional.

Knows nothing about the encoder or Milvus, but its shape of rows is what pymilvus accepts.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse


class SparseMatrix(csr_array):  # type: ignore[misc]
    """A CSR array of n x vocabulary whose rows, however taken, are 1 x vocabulary matrices, and whose `len()` is n.

    Since SciPy 1.15 a row of a plain csr_array is one-dimensional and its `len()` raises; pymilvus rejects such rows in
    insert, search and AnnSearchRequest, and calls `len()` on a matrix it is given. The rule: an index that names one
    row by an int (`matrix[i]`, `matrix[i, columns]`) gives a matrix of one row. Every other index gives what csr_array
    gives, a column by an int (`matrix[:, j]`) its one-dimensional array too, and so does everything else.

    `scipy.sparse.vstack` and `hstack` always make plain csr_arrays: `SparseMatrix(vstack([a, b]))` has such rows again.

    Example:
        >>> matrix = SparseMatrix([[0, 2.0, 0], [1.0, 0, 3.0]])
        >>> len(matrix), matrix[1].shape, matrix[1, [0, 2]].shape, [row.nnz for row in matrix]
        (2, (1, 3), (1, 2), [1, 2])
        >>> matrix
        <SparseMatrix 2 x 3, float64, 3 weights>
    """

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Iterator[SparseMatrix]:
        for i in range(len(self)):
            yield self._getrow(i)

    def __repr__(self) -> str:
        n, columns = self.shape
        return f"<SparseMatrix {n} x {columns}, {self.dtype}, {self.nnz} weights>"

    def _repr_html_(self) -> str:
        from trivec.vectors.sparse_html import table_of_weights

        return table_of_weights(self)

    def __getitem__(self, key: Any) -> Any:
        row, rest = _row_named(key)
        if row is not None and (not rest or (len(rest) == 1 and _is_everything(rest[0]))):
            return self._getrow(row)
        # A plain csr_array of the same memory: SciPy's indexing counts on what a length and two dimensions change.
        if row is not None and len(rest) == 1 and (isinstance(rest[0], slice) or np.ndim(rest[0]) == 1):
            found = _plain(self._getrow(row))[:, rest[0]]
        else:
            found = _plain(self)[key]
        return SparseMatrix(found) if issparse(found) and found.ndim == 2 else found

    def __array__(self, *_args: Any, **_kwargs: Any) -> npt.NDArray[Any]:
        # To numpy a csr_array is a single object. Having a length, this one would pass for a sequence of itself.
        single = np.empty((), dtype=object)
        single[()] = self
        return single

    def getrow(self, i: int) -> SparseMatrix:
        """Return row i, 1 x vocabulary; a negative i counts from the end."""
        return self._getrow(i)

    def _getrow(self, i: int) -> SparseMatrix:
        i, n = operator.index(i), len(self)
        if not -n <= i < n:
            raise IndexError(f"row {i} of a sparse matrix with {n} rows")
        start, end = self.indptr[i % n], self.indptr[i % n + 1]
        indptr = np.array([0, end - start], dtype=self.indptr.dtype)
        return SparseMatrix((self.data[start:end], self.indices[start:end], indptr), shape=(1, self.shape[1]))


def _plain(matrix: SparseMatrix) -> csr_array:
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _row_named(key: Any) -> tuple[int | None, tuple[Any, ...]]:
    """Return the row that an index names by an int, None if by anything else, and what the index says besides."""
    first, *rest = key if isinstance(key, tuple) and key else (key,)
    if first is ... and len(rest) == 2:  # it stands for nothing
        first, *rest = rest
    if isinstance(first, (bool, np.bool_)) or np.ndim(first) != 0:
        return None, ()
    try:
        return operator.index(first), tuple(rest)
    except TypeError:
        return None, ()


def _is_everything(index: Any) -> bool:
    return index is ... or (isinstance(index, slice) and (index.start, index.stop, index.step) == (None, None, None))


def weights_by_id(row: SparseMatrix) -> dict[int, float]:
    """Return the positive weights of one text (1 x vocabulary) by token id."""
    pairs = zip(row.indices.tolist(), row.data.tolist(), strict=True)
    return {token_id: weight for token_id, weight in pairs if weight > 0}


def pool_lexical_weights(
    token_ids: Sequence[npt.NDArray[np.int32]],
    token_weights: Sequence[npt.NDArray[np.float32]],
    vocabulary_size: int,
    unused_ids: Sequence[int],
) -> SparseMatrix:
    """Turn a weight per token into a weight per distinct token id: the largest, where a text repeats the token.

    The rule is FlagEmbedding's: only positive weights count, and `unused_ids` (special tokens) never do.

    Args:
        token_ids: One (tokens,) int32 array a text.
        token_weights: One (tokens,) float32 array a text, aligned with the ids.
        vocabulary_size: Number of columns.
        unused_ids: Token ids to leave out.

    Returns:
        Texts x vocabulary_size, float32, indices sorted within each row.
    """
    n = len(token_ids)
    ids = np.concatenate([*token_ids, np.empty(0, np.int32)])
    weights = np.concatenate([*token_weights, np.empty(0, np.float32)])
    texts = np.repeat(np.arange(n), [len(row) for row in token_ids])
    counts = (weights > 0) & ~np.isin(ids, unused_ids)
    ids, weights, texts = ids[counts], weights[counts], texts[counts]

    cell = texts * np.int64(vocabulary_size) + ids
    order = np.argsort(cell, kind="stable")
    cell, weights = cell[order], weights[order]
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    data = np.maximum.reduceat(weights, first) if len(first) else weights
    cell = cell[first]
    indptr = np.zeros(n + 1, dtype=np.int32)
    np.cumsum(np.bincount(cell // vocabulary_size, minlength=n), out=indptr[1:])
    indices = (cell % vocabulary_size).astype(np.int32)
    return SparseMatrix((data, indices, indptr), shape=(n, vocabulary_size))


def row_slice(matrix: SparseMatrix, start: int, end: int) -> SparseMatrix:
    """Return rows `start` to `end` of a matrix, without copying; many times as fast as `matrix[start:end]`."""
    first, last = matrix.indptr[start], matrix.indptr[end]
    indptr = matrix.indptr[start : end + 1] - first
    return SparseMatrix((matrix.data[first:last], matrix.indices[first:last], indptr), (end - start, matrix.shape[1]))


def stack_rows(matrices: Sequence[SparseMatrix]) -> SparseMatrix:
    """Stack matrices of equal width on top of each other; at least one must be given."""
    sizes = np.concatenate([np.diff(matrix.indptr) for matrix in matrices])
    # 32-bit indices where they suffice, as SciPy has it: half the memory.
    total = int(sizes.sum(dtype=np.int64))
    indptr = np.zeros(len(sizes) + 1, dtype=np.int32 if total <= np.iinfo(np.int32).max else np.int64)
    np.cumsum(sizes, out=indptr[1:])
    data = np.concatenate([matrix.data for matrix in matrices])
    indices = np.concatenate([matrix.indices for matrix in matrices])
    return SparseMatrix((data, indices, indptr), shape=(len(sizes), matrices[0].shape[1]))
