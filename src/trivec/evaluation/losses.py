"""At which queries a mode loses, and to what: those that another mode answers better, with the passages in question.

Figures and rankings are the report's, texts the data sets': nothing is searched again. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trivec.evaluation.datasets import RetrievalDataset
from trivec.evaluation.metrics import METRICS
from trivec.evaluation.report import DatasetReport, EvaluationReport

QUERIES_SHOWN = 10
"""Most queries of a mode."""

PASSAGES_SHOWN = 3
"""Most relevant passages of a query, and most that are not."""

_METRIC = METRICS[0]


@dataclass(frozen=True)
class Passage:
    """A document and its place in the ranking of one mode.

    Attributes:
        id: Its id.
        text: Its text.
        grade: What the judgements say; None: it is not judged.
        rank: From 1; None: it was not found.
        score: That mode's; None: it was not found.
    """

    id: str
    text: str
    grade: int | None
    rank: int | None
    score: float | None


@dataclass(frozen=True)
class LostQuery:
    """A query that one mode answers worse than it might.

    Attributes:
        dataset: Name of its data set.
        query: Its text.
        loss: By how much the nDCG@10 is lower, between 0 and 1.
        figures: nDCG@10 by mode.
        first_relevant: Rank of the first relevant document by mode; None: there is none in the ranking.
        found: How many documents the mode found.
        relevant: The first relevant documents, those of the highest grade before others.
        relevant_left_out: How many more there are.
        wrong: The documents that the mode ranks first although they are not judged relevant.
    """

    dataset: str
    query: str
    loss: float
    figures: dict[str, float]
    first_relevant: dict[str, int | None]
    found: int
    relevant: list[Passage]
    relevant_left_out: int
    wrong: list[Passage]


def lost_queries(report: EvaluationReport, datasets: Sequence[RetrievalDataset], mode: str) -> list[LostQuery]:
    """Return the queries at which a mode loses most against the best of the other modes, the largest loss first."""
    others = [other for other in report.modes if other != mode]
    if not others:
        return []
    losses = [
        np.max([one.per_query[other][_METRIC] for other in others], axis=0) - one.per_query[mode][_METRIC]
        for one in report.datasets
    ]
    return _largest(report, datasets, losses, mode)


def unanswered_queries(report: EvaluationReport, datasets: Sequence[RetrievalDataset]) -> list[LostQuery]:
    """Return the queries at which the best mode of each is furthest from 1, with passages as `best_mode` ranks them."""
    losses = [
        1 - np.max([by_metric[_METRIC] for by_metric in one.per_query.values()], axis=0) for one in report.datasets
    ]
    return _largest(report, datasets, losses, best_mode(report))


def best_mode(report: EvaluationReport) -> str:
    """The mode with the highest nDCG@10, averaged over the data sets."""
    return max(report.modes, key=lambda mode: report.macro[mode][_METRIC].mean)


def against_baseline(report: EvaluationReport, mode: str) -> tuple[int, int, int] | None:
    """At how many queries a mode's nDCG@10 is above, equal to and below the baseline's; None for the baseline."""
    if report.baseline in (None, mode):
        return None
    pairs = [(one.per_query[mode][_METRIC], one.per_query[report.baseline][_METRIC]) for one in report.datasets]
    signs = np.concatenate([np.sign(own - of_baseline) for own, of_baseline in pairs])
    return int((signs > 0).sum()), int((signs == 0).sum()), int((signs < 0).sum())


def _largest(
    report: EvaluationReport,
    datasets: Sequence[RetrievalDataset],
    losses: Sequence[npt.NDArray[np.float64]],
    mode: str,
) -> list[LostQuery]:
    """Where losses are equal, data sets take turns: else the first of twenty languages might be all that is seen."""
    candidates = []
    for number, of_dataset in enumerate(losses):
        order = np.argsort(-of_dataset, kind="stable")[:QUERIES_SHOWN]
        candidates += [(-of_dataset[i], turn, number, i) for turn, i in enumerate(order.tolist()) if of_dataset[i] > 0]
    return [
        _lost(report.datasets[number], datasets[number], report.datasets[number].query_ids[i], float(-negative), mode)
        for negative, _, number, i in sorted(candidates)[:QUERIES_SHOWN]
    ]


def _lost(report: DatasetReport, dataset: RetrievalDataset, query_id: str, loss: float, mode: str) -> LostQuery:
    position = report.query_ids.index(query_id)
    row = report.runs[mode].query_ids.index(query_id)
    rankings = {name: run.of_query(row) for name, run in report.runs.items()}
    grades = dataset.qrels[query_id]
    places = {document: (rank, score) for rank, (document, score) in enumerate(rankings[mode], start=1)}

    def passage(document: str) -> Passage:
        return Passage(document, dataset.documents[document], grades.get(document), *places.get(document, (None, None)))

    def order(document: str) -> tuple[int, int]:
        return -grades[document], places[document][0] if document in places else len(places) + 1

    relevant = sorted((document for document, grade in grades.items() if grade > 0), key=order)
    wrong = [document for document in places if grades.get(document, 0) <= 0]
    return LostQuery(
        dataset=dataset.name,
        query=dataset.queries[query_id],
        loss=loss,
        figures={name: float(values[_METRIC][position]) for name, values in report.per_query.items()},
        first_relevant={
            name: next((rank for rank, (document, _) in enumerate(found, 1) if grades.get(document, 0) > 0), None)
            for name, found in rankings.items()
        },
        found=len(places),
        relevant=[passage(document) for document in relevant[:PASSAGES_SHOWN]],
        relevant_left_out=max(0, len(relevant) - PASSAGES_SHOWN),
        wrong=[passage(document) for document in wrong[:PASSAGES_SHOWN]],
    )
