"""Rows of the sparse matrix stay two-dimensional however they are taken, and pooling follows FlagEmbedding's rule."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse, load_npz, save_npz, vstack

from trivec.sparse import SparseMatrix, pool_lexical_weights, stack_rows

DENSE = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 5, 0]], np.float32)


@pytest.fixture
def matrix() -> SparseMatrix:
    return SparseMatrix(DENSE)


def test_length_is_the_number_of_rows(matrix: SparseMatrix) -> None:
    assert len(matrix) == 3
    assert len(matrix[1:]) == 2
    assert len(SparseMatrix((0, 7))) == 0
    assert list(SparseMatrix((0, 7))) == []


def test_every_way_to_take_a_row_is_two_dimensional(matrix: SparseMatrix) -> None:
    for i in (0, 1, 2, -1, np.int64(2), np.array(1)):
        for row in (matrix[i], matrix[[i]], matrix[i, :], matrix[i, ...], matrix._getrow(i), list(matrix)[i]):
            assert isinstance(row, SparseMatrix)
            assert row.shape == (1, 4)
            assert np.array_equal(row.toarray()[0], DENSE[i])
    assert np.array_equal(matrix[0:2].toarray(), DENSE[0:2])
    assert np.array_equal(matrix[[2, 0]].toarray(), DENSE[[2, 0]])
    assert np.array_equal(matrix[np.array([True, False, True])].toarray(), DENSE[[0, 2]])
    for beyond in (3, -4):
        with pytest.raises(IndexError, match="3 rows"):
            matrix[beyond]


def test_the_rest_is_scipys(matrix: SparseMatrix, tmp_path) -> None:
    assert isinstance(matrix, csr_array)
    assert issparse(matrix)
    assert matrix[0, 1] == 2
    assert np.array_equal(matrix[:, 1].toarray(), DENSE[:, 1])
    assert np.array_equal((matrix @ matrix.T).toarray(), DENSE @ DENSE.T)
    assert np.array_equal(matrix @ np.ones(4, np.float32), DENSE.sum(axis=1))
    assert np.array_equal(np.ones((1, 3), np.float32) @ matrix, DENSE.sum(axis=0, keepdims=True))
    assert np.array_equal((matrix * 2).toarray(), DENSE * 2)
    assert np.array_equal(vstack([matrix, matrix]).toarray(), np.vstack([DENSE, DENSE]))
    assert matrix.max(axis=1).toarray().tolist() == [2, 0, 5]
    assert np.array_equal(pickle.loads(pickle.dumps(matrix)).toarray(), DENSE)
    save_npz(tmp_path / "m.npz", matrix)
    assert np.array_equal(load_npz(tmp_path / "m.npz").toarray(), DENSE)
    assert np.asarray(matrix).shape == np.asarray(csr_array(DENSE)).shape == ()
    assert np.array([matrix, matrix], dtype=object).shape == (2,)


def test_pooling_takes_the_largest_weight_of_a_token_and_leaves_out_unused_and_negative() -> None:
    ids = [np.array(row, np.int32) for row in ([0, 5, 7, 5, 2], [0, 2], [0, 9, 9, 3, 2])]
    weights = [np.array(row, np.float32) for row in ([9, 1, 0.5, 4, 9], [9, 9], [9, 0, 0, 9, 9])]
    pooled = pool_lexical_weights(ids, weights, 10, (0, 1, 2, 3))
    assert pooled.dtype == np.float32
    assert pooled.shape == (3, 10)
    assert [dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)) for row in pooled] == [
        {5: 4, 7: 0.5},
        {},
        {},
    ]
    assert pooled.has_canonical_format


def test_stacking_keeps_rows(matrix: SparseMatrix) -> None:
    stacked = stack_rows([matrix, matrix[1:]])
    assert np.array_equal(stacked.toarray(), np.vstack([DENSE, DENSE[1:]]))
    assert stacked.indices.dtype == stacked.indptr.dtype == np.int32
