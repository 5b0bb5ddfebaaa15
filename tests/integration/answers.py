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
