"""The search for fusion weights, on scores of which one knows the answer."""

from __future__ import annotations

import numpy as np
import pytest

from trivec.search.fusion import choose_weights
from trivec.vectors.scoring import weighted_mean


@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
@pytest.mark.parametrize("informative", [0, 1, 2])
def test_the_search_for_weights_finds_the_score_that_knows(informative: int, scale: float):
    """20 queries with 10 candidates; document 0 is right, and one score, of whatever size, knows it."""
    scores = list(np.random.default_rng(4).standard_normal((3, 20, 10)).astype(np.float32))
    scores[informative] = np.where(np.arange(10) == 0, np.float32(scale), np.float32(0)) * np.ones((20, 1), np.float32)

    def share_of_right(fused: list[np.ndarray]) -> float:
        (only,) = fused
        return float(np.mean(only.argmax(axis=1) == 0))

    weights, reached = choose_weights([tuple(scores)], share_of_right)
    assert reached == 1.0
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert set(weighted_mean(scores, weights).argmax(axis=1).tolist()) == {0}
