"""Hybrid search over a store in memory: what ranks, is reranked and is told, without Milvus and without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from trivec.search import hybrid
from trivec.search.fusion import RRF, Weighted
from trivec.search.hits import Hit
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.sparse import SparseMatrix

DENSE = {"a": [1, 0, 0], "b": [0.8, 0.6, 0], "c": [0, 1, 0], "d": [0, 0, 1]}
SPARSE = {"a": {7: 1.0}, "b": {8: 0.5}, "c": {5: 2.0, 6: 1.0}, "d": {6: 4.0}}
TOKENS = [(5, (0, 4)), (6, (5, 9))]  # of "tide mark"
# Of the query "tide mark"; the second query has no lexical weights.
QUERIES = M3Embeddings(
    np.float32([[1, 0, 0], [0, 0, 1]]), SparseMatrix(np.float32([[0, 0, 0, 0, 0, 0.5, 0.25, 0, 0], [0] * 9])), None
)


class Memory:
    """Two documents of each search at most; those that are `gone` were deleted since."""

    def __init__(self, gone: Iterable[str] = ()) -> None:
        self.gone = set(gone)
        self.looked_up: list[set[str]] = []

    def nearest(self, kind: str, queries: Sequence[Any]) -> list[list[Hit]]:
        found = []
        for query in queries:
            if kind == "dense":
                scores = {name: float(query @ np.float32(vector)) for name, vector in DENSE.items()}
            else:
                scores = {name: sum(query.get(t, 0) * w for t, w in SPARSE[name].items()) for name in SPARSE}
            best = sorted(scores, key=lambda name: -scores[name])[:2]
            found.append([Hit(n, f"text {n}", scores[n], {"n": n}, **{f"{kind}_score": scores[n]}) for n in best])
        return found

    def stored(self, ids: Iterable[str], kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
        self.looked_up.append(set(ids))
        vectors = {"dense": DENSE, "sparse": SPARSE}
        return {name: {kind: vectors[kind][name] for kind in kinds} for name in self.looked_up[-1] - self.gone}


def ids(found: Sequence[Sequence[Hit]]) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in found]


def test_hits_of_both_searches_are_fused_and_have_both_scores():
    store = Memory()
    found = hybrid.found("hybrid", QUERIES, Weighted(1, 1), store.nearest, store.stored)
    assert ids(found) == [["c", "a", "d", "b"], ["d", "a"]]
    scores = {hit.id: (hit.score, hit.dense_score, hit.sparse_score) for hit in found[0]}
    expected = {"a": (1, 1, 0), "b": (0.8, 0.8, 0), "c": (1.25, 0, 1.25), "d": (1, 0, 1)}
    assert scores == {name: pytest.approx(three) for name, three in expected.items()}
    assert found[0][0].metadata == {"n": "c"}
    assert store.looked_up == [{"a", "b", "c", "d"}]
    by_rank = hybrid.found("hybrid", QUERIES, RRF(1), store.nearest, store.stored)[0]
    assert [(hit.id, hit.score) for hit in by_rank] == [("a", 1 / 2), ("c", 1 / 2), ("b", 1 / 3), ("d", 1 / 3)]


def test_one_kind_of_vectors_is_searched_alone():
    store = Memory()
    assert ids(hybrid.found("dense", QUERIES, RRF(), store.nearest, store.stored)) == [["a", "b"], ["d", "a"]]
    found = hybrid.found("sparse", QUERIES, RRF(), store.nearest, store.stored)
    assert ids(found) == [["c", "d"], []]
    assert [hit.dense_score for hit in found[0]] == [None, None]
    assert store.looked_up == []


def test_a_document_that_is_deleted_between_search_and_look_up_is_no_hit():
    store = Memory(gone="ac")
    found = hybrid.found("hybrid", QUERIES, Weighted(1, 1), store.nearest, store.stored)
    assert ids(found) == [["d", "b"], ["d"]]
    hits = [[Hit("c", "", 1, {})], []]
    told = hybrid.with_matched_words(["tide mark", "x"], QUERIES, hits, store.stored, lambda _: TOKENS)
    assert told[0][0].matched_words == ()


def test_reranking_asks_for_a_document_that_several_queries_found_once():
    token_vectors = {"a": [[0, 1.0]], "b": [[1.0, 0], [0, 1.0]], "c": [[0.6, 0.8]]}
    asked: list[list[str]] = []

    def look_up(hits: Sequence[Hit]) -> dict[str, np.ndarray]:
        asked.append([hit.id for hit in hits])
        return {hit.id: np.float32(token_vectors[hit.id]) for hit in hits if hit.id in token_vectors}

    a, b, c, gone = (Hit(name, f"text {name}", 0.0, {}) for name in "abcd")
    queries = [np.float32([[1, 0], [0, 1]]), np.float32([[1, 0]])]
    found = hybrid.reranked(queries, [[a, b], [b, c, a, gone]], look_up)
    assert asked == [["a", "b", "c", "d"]]
    assert [[(hit.id, hit.score) for hit in hits] for hits in found] == [
        [("b", 1), ("a", 0.5)],
        [("b", 1), ("c", pytest.approx(0.6)), ("a", 0)],
    ]
    assert all(hit.colbert_score == hit.score for hits in found for hit in hits)


def test_matched_words_are_those_of_each_query():
    store = Memory()
    hits = [[Hit("c", "", 1.25, {}), Hit("a", "", 0, {})], [Hit("c", "", 1, {})]]
    told = hybrid.with_matched_words(["tide mark", "tide mark"], QUERIES, hits, store.stored, lambda _: TOKENS)
    words = (("tide", 1.0), ("mark", 0.25))
    assert [[hit.matched_words for hit in of_query] for of_query in told] == [[words, ()], [()]]
    assert store.looked_up == [{"a", "c"}]


@pytest.mark.parametrize(
    ("asked", "depth"),
    [
        (("dense", 10, 0, None, None, None), 10),
        (("dense", 10, 5, None, "colbert", None), 45),
        (("hybrid", 10, 0, RRF(), None, None), 30),
        (("hybrid", 10, 0, None, None, 12), 12),
        (("hybrid", 40, 0, None, None, None), 100),
        (("hybrid", 40, 0, None, None, 500), 100),
    ],
)
def test_how_deep_a_search_looks(asked: tuple[Any, ...], depth: int):
    assert hybrid.depth(*asked, most=100) == depth
    with pytest.raises(ValueError, match=r"limit \(101\) is beyond the 100"):
        hybrid.depth("dense", 101, 0, None, None, None, most=100)
