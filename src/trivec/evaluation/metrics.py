"""How good a ranking is, and how sure one can be: ir-measures' metrics, bootstrap intervals, a paired test.

The metrics are trec_eval's, by way of ir-measures: nDCG with linear gains, recall over the judged relevant documents,
the reciprocal rank of the first relevant one. A ranking is taken in the order given. Knows nothing of how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.evaluation.datasets import Qrels
from trivec.support.extras import require

METRICS = ("nDCG@10", "Recall@100", "MRR@10", "R@1")
"""What every evaluation reports; the first is the one that fusion weights are chosen by."""

_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over queries.

    Attributes:
        mean: Between 0 and 1.
        low: Lower end of the 95 % bootstrap interval over queries; None with a single query.
        high: Its upper end.
        p_value: Of the paired t-test against the baseline, two-sided; None for the baseline and where there is none.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None = None


def per_query_metrics(
    rankings: Mapping[str, Sequence[str]], qrels: Qrels, metrics: Sequence[str] = METRICS
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure rankings, query by query.

    Args:
        rankings: Document ids by query id, best first. A query without a ranking counts 0.
        qrels: The judgements; every query in them counts.
        metrics: Names out of `METRICS`.

    Returns:
        Values between 0 and 1 by metric, (queries,) float64 each, in the order of `qrels`.

    Raises:
        MissingExtraError: `ir-measures` is not installed.
    """
    ir_measures = require("ir_measures")
    # What each metric is to ir-measures, and the length at which rankings are cut before they are measured. RR of a
    # ranking of 10 is RR@10; asked for by that name, ir-measures computes it in Python, many times slower.
    measures = {
        "nDCG@10": (ir_measures.nDCG @ 10, 10),
        "Recall@100": (ir_measures.R @ 100, 100),
        "MRR@10": (ir_measures.RR, 10),
        "R@1": (ir_measures.R @ 1, 10),
    }
    values = {name: np.zeros(len(qrels)) for name in metrics}
    # Queries and documents go by numbers: trec_eval, which is C, would end an id at its first U+0000.
    numbers: dict[str, str] = {}

    def number(document: str) -> str:
        return numbers.setdefault(document, str(len(numbers)))

    judged = {
        str(i): {number(document): grade for document, grade in grades.items()}
        for i, grades in enumerate(qrels.values())
    }
    for cutoff in sorted({measures[name][1] for name in metrics}):
        names = {measures[name][0]: name for name in metrics if measures[name][1] == cutoff}
        # trec_eval sorts by score and breaks ties by id; falling numbers as scores keep the order that was given.
        run = {
            str(i): {number(document): float(-rank) for rank, document in enumerate(rankings.get(query, ())[:cutoff])}
            for i, query in enumerate(qrels)
        }
        for value in ir_measures.iter_calc(list(names), judged, run):
            values[names[value.measure]][int(value.query_id)] = value.value
    return values


def estimate(values: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64] | None = None) -> Estimate:
    """Mean over queries with a bootstrap interval, and a paired t-test against a baseline's values.

    The t-test is the one of Smucker et al. (CIKM 2007) and Urbano et al. (SIGIR 2019) for means over queries; the
    interval is scipy's percentile bootstrap (2,000 resamples, seeded, so that a second run prints the same).

    Args:
        values: (queries,), one metric.
        baseline: (queries,), the same metric and queries by another method; None for no test.
    """
    low, high = _interval([values])
    return Estimate(float(values.mean()), low, high, None if baseline is None else _paired_p_value(values, baseline))


def macro_estimate(values: Sequence[npt.NDArray[np.float64]]) -> Estimate:
    """Mean of several data sets' means, each counting the same; the bootstrap draws queries within each data set.

    Args:
        values: One (queries,) array a data set, all of one metric.
    """
    low, high = _interval(values)
    return Estimate(float(np.mean([one.mean() for one in values])), low, high)


def _interval(samples: Sequence[npt.NDArray[np.float64]]) -> tuple[float | None, float | None]:
    if any(len(sample) < 2 for sample in samples):
        return None, None
    from scipy.stats import bootstrap

    def mean_of_means(*drawn: Any, axis: int = -1) -> Any:
        return sum(sample.mean(axis=axis) for sample in drawn) / len(drawn)

    interval = bootstrap(
        samples,
        mean_of_means,
        n_resamples=_RESAMPLES,
        batch=max(1, 2_000_000 // max(len(sample) for sample in samples)),  # bounds the memory of the resamples
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _paired_p_value(values: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]) -> float | None:
    if len(values) < 2:
        return None
    if np.ptp(values - baseline) == 0:  # no spread: the t statistic is 0 / 0 or infinite
        return 1.0 if values[0] == baseline[0] else 0.0
    from scipy.stats import ttest_rel

    return float(ttest_rel(values, baseline).pvalue)
