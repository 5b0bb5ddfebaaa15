"""Measure a model on data sets: every mode, every metric, with intervals and a test against a baseline."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.evaluation.cache import ArrayCache, default_cache_folder
from trivec.evaluation.datasets import RetrievalDataset
from trivec.evaluation.encodings import Encoder
from trivec.evaluation.fusion import FusionWeights, checked_weights, choose_weights
from trivec.evaluation.metrics import METRICS, Estimate, estimate, macro_estimate, per_query_metrics
from trivec.evaluation.ranking import (
    DEFAULT_CANDIDATES,
    DEFAULT_EXACT_LIMIT,
    MODES,
    DatasetSearch,
    Run,
    available_modes,
)
from trivec.evaluation.search import ScoredPairs
from trivec.model import M3Model

DEFAULT_BASELINE = "bm25-pieces"
Estimates = dict[str, dict[str, Estimate]]
"""By mode, then by metric."""
_UNSAFE = re.compile(r"[^\w.-]")  # what a data set's name may hold and a file's should not


@dataclass(frozen=True)
class DatasetReport:
    """One data set's figures.

    Attributes:
        name: The data set's name.
        queries: How many queries were measured.
        documents: How many documents they were searched in.
        estimates: Means, intervals and p-values by mode and metric.
        per_query: By mode and metric, (queries,) values in the order of `query_ids`.
        query_ids: The queries.
        runs: The rankings by mode.
    """

    name: str
    queries: int
    documents: int
    estimates: Estimates
    per_query: dict[str, dict[str, npt.NDArray[np.float64]]] = field(repr=False)
    query_ids: Sequence[str] = field(repr=False)
    runs: dict[str, Run] = field(repr=False)


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` returns.

    Attributes:
        model: Name of the model.
        precision: What it computed in.
        max_length: Most tokens of a text that were read.
        fusion_weights: Weights of dense, sparse and multi-vector score in `dense+sparse` and `all`.
        candidates: How many dense and how many sparse results were re-ranked.
        baseline: The mode that p-values compare with, or None.
        datasets: One report each.
        macro: Means over the data sets by mode and metric, each data set counting the same.
    """

    model: str
    precision: str
    max_length: int
    fusion_weights: FusionWeights
    candidates: int
    baseline: str | None
    datasets: list[DatasetReport]
    macro: Estimates

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that were measured, in the order of the tables."""
        return tuple(self.macro)

    def to_dict(self) -> dict[str, Any]:
        """Everything but rankings and single queries, ready for JSON."""
        return {
            "model": self.model,
            "precision": self.precision,
            "max_length": self.max_length,
            "fusion_weights": list(self.fusion_weights),
            "candidates": self.candidates,
            "baseline": self.baseline,
            "datasets": [
                {
                    "name": dataset.name,
                    "queries": dataset.queries,
                    "documents": dataset.documents,
                    "modes": _plain(dataset.estimates),
                }
                for dataset in self.datasets
            ],
            "macro_average": _plain(self.macro),
        }

    def write_json(self, path: str | Path) -> None:
        """Write `to_dict` as a JSON file."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def write_runs(self, folder: str | Path) -> list[Path]:
        """Write a TREC run file `<data set>.<mode>.trec` for each ranking into `folder`, and return their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for dataset in self.datasets:
            for mode, run in dataset.runs.items():
                path = folder / f"{_UNSAFE.sub('_', dataset.name)}.{mode}.trec"
                run.write(path, tag=f"trivec-{mode}")
                paths.append(path)
        return paths


def evaluate(
    model: M3Model,
    datasets: Sequence[RetrievalDataset],
    *,
    modes: Sequence[str] | None = None,
    fusion_weights: Sequence[float] | None = None,
    baseline: str | None = None,
    candidates: int = DEFAULT_CANDIDATES,
    exact_limit: int = DEFAULT_EXACT_LIMIT,
    batch_size: int = 16,
    max_length: int | None = None,
    cache_folder: str | Path | None = None,
    use_cache: bool = True,
    show_progress: bool = False,
) -> EvaluationReport:
    """Measure every mode of a model on some data sets.

    Args:
        model: The model.
        datasets: What to search; give languages as data sets of their own.
        modes: Out of `MODES`; all that the model's heads allow if None.
        fusion_weights: Of dense, sparse and multi-vector score; the model's own if None.
        baseline: A mode to test the others against; "bm25-pieces" if None and measured.
        candidates: How many dense and how many sparse results the other modes re-rank, and how long rankings are;
            Recall@100 wants at least 100.
        exact_limit: Most documents that are searched exactly; larger corpora are searched by Milvus Lite.
        batch_size: As in `M3Model.encode`.
        max_length: Most tokens of a text that are read; the model's own if None.
        cache_folder: Where encodings are kept; `default_cache_folder()` if None.
        use_cache: False keeps nothing after the call.
        show_progress: Show bars while encoding.

    Returns:
        The figures, with the rankings they were computed from.

    Raises:
        ValueError: No data set, two of one name, an unknown mode, a baseline that is not measured, bad weights.
        MissingHeadError: A mode that was asked for needs a head that the model lacks.
        MissingExtraError: A package of the extra `eval` is missing.
    """
    modes = available_modes(model) if modes is None else tuple(dict.fromkeys(modes))
    _check(datasets, modes, candidates)
    weights = checked_weights(_model_weights(model) if fusion_weights is None else fusion_weights)
    if baseline is None:
        baseline = DEFAULT_BASELINE if DEFAULT_BASELINE in modes else None
    elif baseline not in modes:
        raise ValueError(f"baseline={baseline!r} is not among the measured modes: {', '.join(modes)}")
    with _cache(cache_folder, use_cache) as cache:
        encoder = Encoder(model, cache, batch_size, max_length, show_progress)
        reports = [
            _evaluate_one(DatasetSearch(encoder, dataset, candidates, exact_limit), modes, weights, baseline)
            for dataset in datasets
        ]
    macro = {
        mode: {name: macro_estimate([report.per_query[mode][name] for report in reports]) for name in METRICS}
        for mode in modes
    }
    return EvaluationReport(
        model=model.name,
        precision=model.precision,
        max_length=model.checked_length(max_length),
        fusion_weights=weights,
        candidates=candidates,
        baseline=baseline,
        datasets=reports,
        macro=macro,
    )


def tune_fusion(
    model: M3Model,
    datasets: Sequence[RetrievalDataset],
    *,
    candidates: int = DEFAULT_CANDIDATES,
    exact_limit: int = DEFAULT_EXACT_LIMIT,
    batch_size: int = 16,
    max_length: int | None = None,
    cache_folder: str | Path | None = None,
    use_cache: bool = True,
    show_progress: bool = False,
) -> tuple[FusionWeights, float]:
    """Choose the fusion weights by which `all` has the best nDCG@10, averaged over development data sets.

    Figures measured on the same data sets afterwards are flattered: evaluate on others. `store_fusion_weights` keeps
    the result in the model's folder.

    Args:
        model: A model with all three heads.
        datasets: The development data sets.
        candidates: As in `evaluate`.
        exact_limit: As in `evaluate`.
        batch_size: As in `evaluate`.
        max_length: As in `evaluate`.
        cache_folder: As in `evaluate`.
        use_cache: As in `evaluate`.
        show_progress: As in `evaluate`.

    Returns:
        The weights of dense, sparse and multi-vector score, with sum 1, and the nDCG@10 they reach on `datasets`.

    Raises:
        ValueError: No data set, or two of one name.
        MissingHeadError: The model lacks a head.
        MissingExtraError: A package of the extra `eval` is missing.
    """
    _check(datasets, ("all",), candidates)
    model.require_heads(sparse=True, colbert=True)
    with _cache(cache_folder, use_cache) as cache:
        encoder = Encoder(model, cache, batch_size, max_length, show_progress)
        searches = [DatasetSearch(encoder, dataset, candidates, exact_limit) for dataset in datasets]
        scores = [search.candidate_scores for search in searches]

    def quality(number: int, pairs: ScoredPairs) -> float:
        search = searches[number]
        rankings = search.as_run(pairs.top(10)).rankings()
        return float(per_query_metrics(rankings, search.dataset.qrels, METRICS[:1])[METRICS[0]].mean())

    return choose_weights(scores, quality)


@contextmanager
def _cache(folder: str | Path | None, use_cache: bool) -> Iterator[ArrayCache]:
    if use_cache:
        yield ArrayCache(folder or default_cache_folder())
    else:  # the blocks are read more than once, so they are kept as long as the call lasts
        with tempfile.TemporaryDirectory(prefix="trivec-") as temporary:
            yield ArrayCache(temporary)


def _model_weights(model: M3Model) -> Sequence[float]:
    stored: Sequence[float] = getattr(model, "fusion_weights", (1.0, 1.0, 1.0))
    return stored


def _check(datasets: Sequence[RetrievalDataset], modes: Sequence[str], candidates: int) -> None:
    names = [dataset.name for dataset in datasets]
    if not names:
        raise ValueError("no data set to evaluate on")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two data sets are called {repeated[0]!r}: rename one of them")
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise ValueError(f"mode {(unknown or ['(none)'])[0]!r} is not one of {', '.join(MODES)}")
    if candidates < 1:
        raise ValueError(f"candidates={candidates} must be at least 1")


def _evaluate_one(
    search: DatasetSearch, modes: Sequence[str], weights: FusionWeights, baseline: str | None
) -> DatasetReport:
    dataset = search.dataset
    runs = {mode: search.run(mode, weights) for mode in modes}
    per_query = {mode: per_query_metrics(run.rankings(), dataset.qrels) for mode, run in runs.items()}
    estimates = {
        mode: {
            name: estimate(values[name], None if baseline in (None, mode) else per_query[baseline][name])
            for name in METRICS
        }
        for mode, values in per_query.items()
    }
    return DatasetReport(
        name=dataset.name,
        queries=len(dataset.queries),
        documents=len(dataset.documents),
        estimates=estimates,
        per_query=per_query,
        query_ids=list(dataset.qrels),
        runs=runs,
    )


def _plain(estimates: Estimates) -> dict[str, dict[str, dict[str, float | None]]]:
    return {mode: {name: asdict(value) for name, value in by_metric.items()} for mode, by_metric in estimates.items()}
