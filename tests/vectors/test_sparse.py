"""Rows of the sparse matrix stay two-dimensional however they are taken, and pooling follows FlagEmbedding's rule."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import scipy
from scipy.sparse import csr_array, hstack, issparse, load_npz, save_npz, vstack

from trivec.vectors.sparse import SparseMatrix, pool_lexical_weights, stack_rows

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


# One index of each kind that SciPy takes, for rows and for columns, and what is no pair of two.
ROWS: list[Any] = [0, -1, np.int64(1), np.array(2), slice(None), slice(1, 3), slice(None, None, -1), ..., None]
ROWS += [
    [0, 2],
    [-1, 0],
    [],
    np.array([2, 0]),
    np.array([True, False, True]),
    [False, True, True],
    np.array([[0], [2]]),
]
COLUMNS: list[Any] = [1, -2, np.int64(3), np.array(0), slice(None), slice(1, 3), slice(None, None, 2), ..., None]
COLUMNS += [[1, 3], [-1, 0], [], np.array([2, 0]), np.array([True, False, True, True]), np.array([[1], [3]])]
OTHERS: list[Any] = [
    np.ix_([0, 2], [1, 3]),
    DENSE > 0,
    csr_array(DENSE > 0),
    np.zeros((3, 4), bool),
    (0,),
    (slice(0, 2),),
    (..., 0, slice(1, 3)),
    (..., slice(None), 0),
    (0, ..., 1),
    (0, None, 0),
    (None, 0, 0),
    (None, slice(None), slice(None)),
    "a",
    1.5,
    (0, 1, 2),
    7,
    (0, 9),
]


def by_scipy(index: Any) -> Any:
    try:
        return csr_array(DENSE)[index]
    except (IndexError, TypeError, ValueError, NotImplementedError) as error:  # the last: before SciPy 1.15
        return error


def names_a_row(index: Any) -> bool:
    first, *rest = index if isinstance(index, tuple) else (index,)
    if first is ... and len(rest) == 2:
        first = rest[0]
    return isinstance(first, (int, np.integer)) or (isinstance(first, np.ndarray) and first.ndim == 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("index", [*ROWS, *itertools.product(ROWS, COLUMNS), *OTHERS], ids=repr)
def test_every_index_of_scipys(index: Any, matrix: SparseMatrix) -> None:
    wanted = by_scipy(index)
    if isinstance(wanted, NotImplementedError) and names_a_row(index):
        wanted = csr_array(np.atleast_2d(DENSE[index]))
    if isinstance(wanted, Exception):
        with pytest.raises((IndexError, TypeError, ValueError, NotImplementedError)):
            matrix[index]
        return
    got = matrix[index]
    if not issparse(wanted):  # a number, or an array of numbers
        assert np.array_equal(got, wanted)
        return
    if names_a_row(index):  # the rule: one row stays a matrix of one row
        assert got.ndim == 2
        assert np.array_equal(got.toarray(), np.atleast_2d(wanted.toarray()))
    else:
        assert got.shape == wanted.shape
        assert np.array_equal(got.toarray(), wanted.toarray())
    assert got.dtype == wanted.dtype
    assert isinstance(got, SparseMatrix) == (got.ndim == 2)


def test_rows_by_name(matrix: SparseMatrix) -> None:
    for i in (0, 2, -1):
        for row in (matrix.getrow(i), matrix._getrow(i)):
            assert isinstance(row, SparseMatrix)
            assert np.array_equal(row.toarray(), DENSE[[i]])
    with pytest.raises(IndexError, match="row 3 of a sparse matrix with 3 rows"):
        matrix.getrow(3)


def test_what_is_computed_has_such_rows_too(matrix: SparseMatrix) -> None:
    same = {
        "sum": matrix + matrix,
        "product": matrix * 2,
        "difference": matrix - matrix,
        "copy": matrix.copy(),
        "copied": copy.deepcopy(matrix),
        "pickled": pickle.loads(pickle.dumps(matrix)),
        "type": matrix.astype(np.float64),
        "csr": matrix.tocsr(),
        "maximum": matrix.maximum(matrix),
        "stacked by SciPy": SparseMatrix(vstack([matrix, matrix[0]])),
        "side by side": SparseMatrix(hstack([matrix, matrix])),
        "transposed": SparseMatrix(matrix.T),
    }
    for computed in same.values():
        assert {row.shape for row in computed} == {(1, computed.shape[1])}
        assert len(computed) == computed.shape[0]
    assert np.array_equal(same["stacked by SciPy"].toarray(), DENSE[[0, 1, 2, 0]])


def test_values_can_be_set(matrix: SparseMatrix) -> None:
    with pytest.warns(Warning, match="sparsity structure"):
        matrix[0, [0, 2]] = 7
    assert matrix[0].toarray().tolist() == [[7, 2, 7, 1]]


def test_a_short_repr() -> None:
    assert repr(SparseMatrix((200, 250_002), dtype=np.float32)) == "<SparseMatrix 200 x 250002, float32, 0 weights>"


def test_the_rest_is_scipys(matrix: SparseMatrix, tmp_path) -> None:
    assert isinstance(matrix, csr_array)
    assert issparse(matrix)
    assert matrix[0, 1] == 2
    assert np.array_equal(matrix[:, [1]].toarray(), DENSE[:, [1]])
    if tuple(map(int, scipy.__version__.split(".")[:2])) >= (
        1,
        15,
    ):  # before, SciPy has no one-dimensional sparse arrays
        assert np.array_equal(matrix[:, 1].toarray(), DENSE[:, 1])
    assert np.array_equal((matrix @ matrix.T).toarray(), DENSE @ DENSE.T)
    assert np.array_equal(matrix @ np.ones(4, np.float32), DENSE.sum(axis=1))
    assert np.array_equal(np.ones((1, 3), np.float32) @ matrix, DENSE.sum(axis=0, keepdims=True))
    assert np.array_equal((matrix * 2).toarray(), DENSE * 2)
    assert np.array_equal(vstack([matrix, matrix]).toarray(), np.vstack([DENSE, DENSE]))
    assert matrix.max(axis=1).toarray().ravel().tolist() == [2, 0, 5]
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
