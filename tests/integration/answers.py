"""How what a client returns is held against what the model itself gives."""

from typing import Any

import numpy as np

TOLERANCE = 1e-5
KEY = "a-key-of-these-tests"  # what the guarded server asks for


def assert_same(vectors: Any, expected: np.ndarray) -> None:
    """The same vectors in the same order."""
    got = np.array(vectors)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE


def assert_best_first(got: list[tuple[int, float]], scores: np.ndarray) -> None:
    """The best of `scores`, as (index, score), best first; which of two alike comes first is left open."""
    best = np.sort(scores)[::-1][: len(got)]
    assert np.abs(np.array([score for _, score in got]) - best).max() <= TOLERANCE
    assert np.abs(scores[[index for index, _ in got]] - best).max() <= TOLERANCE
    assert len({index for index, _ in got}) == len(got)


def fused(dense: np.ndarray, sparse: np.ndarray, limit: int) -> np.ndarray:
    """Score of each document by reciprocal rank fusion of its two scores, `limit` documents of each kind."""
    scores = np.zeros(len(dense))
    for of_kind in (dense, np.where(sparse > 0, sparse, -np.inf)):  # no shared word, no hit
        best = [i for i in np.argsort(-of_kind, kind="stable")[:limit] if of_kind[i] > -np.inf]
        scores[best] += 1 / (60 + np.arange(1, len(best) + 1))
    return scores
