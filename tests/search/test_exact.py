"""Blocked search, MaxSim and BM25 against brute force."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from trivec.evaluation.bm25 import bm25_search, words
from trivec.search.exact import EncodedBlock, ScoredPairs, exact_search, pair_scores, union
from trivec.search.maxsim import QueryTokens
from trivec.vectors.scoring import colbert_score

NO_ONE = np.full(7, -1)


def vectors(n: int, seed: int, start: int = 0, dim: int = 8, vocabulary: int = 30) -> EncodedBlock:
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((n, dim)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    sparse = csr_array(random_array((n, vocabulary), density=0.1, rng=rng, dtype=np.float32))
    return EncodedBlock(start, dense, sparse)


def in_blocks(whole: EncodedBlock, size: int) -> Iterator[EncodedBlock]:
    for start in range(0, whole.dense.shape[0], size):
        yield EncodedBlock(start, whole.dense[start : start + size], whole.sparse[start : start + size])


def brute_force(scores: np.ndarray, k: int, lowest: float = -np.inf) -> list[list[tuple[int, float]]]:
    return [
        [(i, float(row[i])) for i in sorted(range(len(row)), key=lambda i: (-row[i], i)) if row[i] > lowest][:k]
        for row in scores
    ]


def as_lists(pairs: ScoredPairs, queries: int) -> list[list[tuple[int, float]]]:
    return [
        [(int(document), float(score)) for document, score in zip(documents, scores, strict=True)]
        for documents, scores in pairs.by_query(queries)
    ]


def assert_same(found: list[list[tuple[int, float]]], expected: list[list[tuple[int, float]]]) -> None:
    assert [[document for document, _ in one] for one in found] == [
        [document for document, _ in one] for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([score for _, score in one], [score for _, score in other], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_blocked_search_is_brute_force(block: int, k: int):
    queries, corpus = vectors(7, seed=0), vectors(61, seed=1)
    found = exact_search(queries, in_blocks(corpus, block), k, NO_ONE)
    assert_same(as_lists(found.dense, 7), brute_force(queries.dense @ corpus.dense.T, k))
    lexical = (queries.sparse @ corpus.sparse.T).toarray()
    assert_same(as_lists(found.sparse, 7), brute_force(lexical, k, lowest=0))


@pytest.mark.parametrize("block", [2, 3, 50])
def test_of_equal_scores_the_lower_document_number_wins_whatever_the_blocks(block: int):
    dense = np.tile(np.float32([[1, 0], [0, 1]]), (20, 1))
    corpus = EncodedBlock(0, dense, csr_array(dense))
    queries = EncodedBlock(0, np.float32([[1, 0]]), csr_array(np.float32([[0, 2]])))
    found = exact_search(queries, in_blocks(corpus, block), 4, np.array([-1]))
    assert as_lists(found.dense, 1) == [[(0, 1.0), (2, 1.0), (4, 1.0), (6, 1.0)]]
    assert as_lists(found.sparse, 1) == [[(1, 2.0), (3, 2.0), (5, 2.0), (7, 2.0)]]


def test_an_excluded_document_is_not_found_and_costs_no_place():
    queries, corpus = vectors(7, seed=0), vectors(61, seed=1)
    best = np.argmax(queries.dense @ corpus.dense.T, axis=1)
    found = as_lists(exact_search(queries, in_blocks(corpus, 16), 5, best).dense, 7)
    expected = brute_force(queries.dense @ corpus.dense.T, 6)
    assert_same(found, [ranking[1:] for ranking in expected])


def test_pair_scores_are_the_scores_of_the_search():
    queries, corpus = vectors(7, seed=0), vectors(61, seed=1)
    found = exact_search(queries, in_blocks(corpus, 16), 5, NO_ONE)
    query, document = union(found)
    assert len(set(zip(query.tolist(), document.tolist(), strict=True))) == len(query)
    both = {
        (q, d)
        for pairs in (found.dense, found.sparse)
        for q, d in zip(pairs.query.tolist(), pairs.document.tolist(), strict=True)
    }
    assert both == set(zip(query.tolist(), document.tolist(), strict=True))
    dense, sparse = pair_scores(queries, in_blocks(corpus, 16), query, document)
    np.testing.assert_allclose(dense, (queries.dense @ corpus.dense.T)[query, document], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sparse, (queries.sparse @ corpus.sparse.T).toarray()[query, document], rtol=1e-5)


def test_maxsim_is_the_librarys_score_for_every_pair(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(3)
    queries = [rng.standard_normal((length, 8)).astype(np.float32) for length in (1, 5, 2, 9)]
    documents = [rng.standard_normal((length, 8)).astype(np.float32) for length in (1, 30, 4)]
    tokens = QueryTokens(queries)
    chosen = np.array([3, 0, 2])
    for cells in (4_000_000, 40):  # in one product, and in several
        monkeypatch.setattr("trivec.search.maxsim._CELLS", cells)
        for document in documents:
            expected = [colbert_score(queries[i], document) for i in chosen]
            np.testing.assert_allclose(tokens.scores(document, chosen), expected, rtol=1e-5)


def test_words_are_what_people_call_words():
    assert words(["Wie heißt du?", "हिन्दी भाषा।", "深圳 rocks", "¡…!"]) == [
        ["wie", "heißt", "du"],
        ["हिन्दी", "भाषा"],
        ["深", "圳", "rocks"],
        [],
    ]


def test_bm25_is_bm25s_run_by_hand():
    bm25s = pytest.importorskip("bm25s", reason="needs the extra eval")
    corpus = ["a cat is a feline and likes to purr", "a dog is the friend of people", "a bird can fly", "cat cat dog"]
    asked = ["does the cat purr", "what can fly", "zebra", ""]
    found = as_lists(bm25_search(words(corpus), words(asked), 2, np.full(4, -1)), 4)
    index = bm25s.BM25()
    index.index([text.split() for text in corpus], show_progress=False)
    by_hand = np.stack([index.get_scores(text.split()) if text else np.zeros(4, np.float32) for text in asked])
    assert_same(found, brute_force(by_hand, 2, lowest=0))
    assert [ranking[0][0] for ranking in found[:2]] == [0, 2]
    assert found[2:] == [[], []]


def test_bm25_scores_follow_the_formula():
    pytest.importorskip("bm25s", reason="needs the extra eval")
    corpus = [["a", "b"], ["a", "a", "c", "d"], ["e"]]
    (ranking,) = as_lists(bm25_search(corpus, [["a"]], 10, np.array([-1])), 1)
    idf = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))  # Lucene's, of a word in 2 of 3 documents
    average = 7 / 3
    expected = {
        document: idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * length / average))
        for document, tf, length in ((0, 1, 2), (1, 2, 4))
    }
    assert dict(ranking) == pytest.approx(expected, rel=1e-5)
