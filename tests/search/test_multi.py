"""Searching by token vectors over a store in memory, without Milvus and without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from trivec.search import maxsim, multi
from trivec.search.hits import Hit
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import colbert_score
from trivec.vectors.sparse import SparseMatrix

DENSE = {"a": [1.0, 0], "b": [0.6, 0.8], "c": [0, 1.0]}
SPARSE = {"a": {1: 2.0}, "b": {2: 1.0}, "c": {1: 0.5}}
TOKENS = {"a": [[1.0, 0]], "b": [[0.6, 0.8], [1.0, 0]], "c": [[0, 1.0]]}
QUERY = M3Embeddings(np.float32([[1, 0]]), SparseMatrix(np.float32([[0, 0.5, 0]])), [np.float32([[1, 0], [0, 1]])])


def stored(ids: Iterable[str], _kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {each: {"dense": DENSE[each], "sparse": SPARSE[each]} for each in ids if each in DENSE}


def tokens(hits: Sequence[Hit]) -> dict[str, np.ndarray]:
    return {hit.id: np.float32(TOKENS[hit.id]) for hit in hits if hit.id in TOKENS}


def test_candidates_of_several_rankings_are_united_with_what_each_knows():
    by_dense = [[Hit("a", "A", 1.0, {}, dense_score=1.0), Hit("b", "B", 0.6, {}, dense_score=0.6)], []]
    by_sparse = [[Hit("a", "A", 2.0, {}, sparse_score=2.0)], [Hit("c", "C", 1.0, {}, sparse_score=1.0)]]
    by_tokens = [[Hit("b", "B", 0.5, {}, colbert_score=0.5)], []]
    first, second = multi.united(by_dense, by_sparse, by_tokens)
    known = {hit.id: (hit.dense_score, hit.sparse_score, hit.colbert_score) for hit in first}
    assert known == {"a": (1.0, 2.0, None), "b": (0.6, None, 0.5)}
    assert [hit.id for hit in second] == ["c"]


def test_the_three_scores_are_joined_by_their_weights_and_completed_from_what_is_stored():
    candidates = [
        [Hit("a", "A", 9.0, {}, dense_score=1.0), Hit("b", "B", 9.0, {}, colbert_score=0.9), Hit("c", "C", 9.0, {})]
    ]
    (found,) = multi.by_all_three(QUERY, candidates, (1, 0.3, 1), stored, tokens)
    three = {"a": (1.0, 1.0, 0.5), "b": (0.6, 0.0, 0.9), "c": (0.0, 0.25, 0.5)}
    assert [hit.id for hit in found] == ["a", "b", "c"]
    for hit in found:
        assert (hit.dense_score, hit.sparse_score, hit.colbert_score) == pytest.approx(three[hit.id])
        assert hit.score == pytest.approx(np.dot(three[hit.id], (1, 0.3, 1)) / 2.3)


def test_a_document_that_is_gone_since_is_no_hit():
    (found,) = multi.by_all_three(
        QUERY, [[Hit("gone", "", 1.0, {}), Hit("a", "A", 1.0, {})]], (1, 1, 1), stored, tokens
    )
    assert [hit.id for hit in found] == ["a"]


@pytest.mark.parametrize("cells", [1, 50, 4_000_000])
def test_maxsim_of_all_is_that_of_each_pair(monkeypatch, cells):
    monkeypatch.setattr(maxsim, "_CELLS", cells)
    random = np.random.default_rng(0)
    queries = [random.standard_normal((n, 8), np.float32) for n in (3, 1, 6)]
    documents = [random.standard_normal((n, 8), np.float32) for n in (5, 0, 1, 40, 2)]
    found = maxsim.scores_of_all(queries, iter(documents))
    expected = [
        [colbert_score(query, document) if len(document) else -np.inf for document in documents] for query in queries
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert maxsim.scores_of_all(queries, []).shape == (3, 0)
