"""Metrics against values worked out by hand, and intervals and tests against scipy and first principles."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from scipy.stats import ttest_rel

from trivec.evaluation.metrics import estimate, macro_estimate, per_query_metrics

pytest.importorskip("ir_measures", reason="needs the extra eval")

QRELS = {
    "first": {"a": 1},
    "third": {"a": 1, "b": 0},
    "graded": {"a": 2, "b": 1},
    "twelfth": {"a": 1},
    "absent": {"a": 1},
    "unsearched": {"a": 1},
}
RANKINGS = {
    "first": ["a", "b", "c"],
    "third": ["c", "b", "a"],
    "graded": ["b", "c", "a"],
    "twelfth": [f"x{i}" for i in range(11)] + ["a"],
    "absent": ["b"],
}


def test_metrics_are_those_of_a_hand_computed_case():
    values = per_query_metrics(RANKINGS, QRELS)
    ideal = 2 / log2(2) + 1 / log2(3)
    graded = (1 / log2(2) + 2 / log2(4)) / ideal
    np.testing.assert_allclose(values["nDCG@10"], [1, 1 / log2(4), graded, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(values["MRR@10"], [1, 1 / 3, 1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(values["Recall@100"], [1, 1, 1, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(values["R@1"], [1, 0, 0.5, 0, 0, 0], atol=1e-9)


def test_a_ranking_is_taken_in_the_order_given_whatever_the_ids():
    for ranking in (["z", "a"], ["a", "z"]):
        values = per_query_metrics({"q": ranking}, {"q": {"a": 1}})
        rank = ranking.index("a") + 1
        assert values["MRR@10"][0] == pytest.approx(1 / rank)
        assert values["nDCG@10"][0] == pytest.approx(1 / log2(rank + 1))


def test_interval_holds_the_mean_and_narrows_with_more_queries():
    draws = np.random.default_rng(1).random(400)
    few, many = estimate(draws[:25]), estimate(draws)
    assert few.low < few.mean < few.high
    assert many.mean == pytest.approx(draws.mean())
    assert many.high - many.low < few.high - few.low
    # For a mean of so many values the bootstrap is close to the normal interval.
    half = 1.96 * draws.std() / 20
    assert many.low == pytest.approx(draws.mean() - half, abs=half / 5)
    assert estimate(draws) == estimate(draws)


def test_paired_test_is_scipys():
    rng = np.random.default_rng(2)
    values = rng.random(60)
    better = np.clip(values + 0.05 + 0.1 * rng.standard_normal(60), 0, 1)
    assert estimate(better, values).p_value == pytest.approx(ttest_rel(better, values).pvalue)
    assert estimate(values, values).p_value == 1.0
    assert estimate(values).p_value is None


def test_a_single_query_has_no_interval():
    only = estimate(np.array([0.5]), np.array([0.25]))
    assert (only.mean, only.low, only.high, only.p_value) == (0.5, None, None, None)


def test_macro_average_counts_every_data_set_the_same():
    small, large = np.array([1.0, 1.0, 0.0]), np.zeros(300)
    macro = macro_estimate([small, large])
    assert macro.mean == pytest.approx((2 / 3 + 0) / 2)
    assert macro.low <= macro.mean <= macro.high
    assert macro.high <= 0.5


def test_an_id_may_hold_any_character():
    odd = {"a\0b": {"x\0y": 1, "x\0z": 0}, "a\0c": {"x\0z": 1}}
    values = per_query_metrics({"a\0b": ["x\0z", "x\0y"], "a\0c": ["x\0z"]}, odd)
    np.testing.assert_allclose(values["MRR@10"], [1 / 2, 1])
