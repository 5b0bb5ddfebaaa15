"""nDCG@10 of matrices, by hand and beside trec_eval's."""

from __future__ import annotations

import numpy as np
import pytest

from trivec.search.ndcg import ndcg_at_10


def test_ndcg_of_a_hand_computed_case():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], dtype=np.float32)
    right = np.array([[True, False, True], [True, False, False]])
    first = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert ndcg_at_10(scores, right) == pytest.approx((first + 1 / np.log2(4)) / 2)


def test_ndcg_in_training_is_that_of_an_evaluation():
    pytest.importorskip("ir_measures", reason="needs the extra eval")
    from trivec.evaluation.metrics import per_query_metrics

    random = np.random.default_rng(3)
    scores = random.standard_normal((40, 25)).astype(np.float32)
    right = random.random((40, 25)) < 0.2
    right[:, 0] |= ~right.any(1)
    right[0] = True  # more right ones than places
    rankings = {str(q): [str(p) for p in np.argsort(-row)] for q, row in enumerate(scores)}
    qrels = {str(q): {str(p): 1 for p in np.flatnonzero(row)} for q, row in enumerate(right)}
    theirs = per_query_metrics(rankings, qrels, ["nDCG@10"])["nDCG@10"]
    assert ndcg_at_10(scores, right) == pytest.approx(theirs.mean())


@pytest.mark.parametrize("score", [0.0, np.nan])
def test_scores_that_tell_nothing_apart_find_nothing(score: float):
    assert ndcg_at_10(np.full((2, 11), score, np.float32), np.eye(2, 11, dtype=bool)) == 0
