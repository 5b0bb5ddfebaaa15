"""Measure a model on data sets: every mode, every metric, with intervals and a test against a baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trivec.evaluation.array_cache import ArrayCache, default_cache_folder
from trivec.evaluation.cross_encoder import CrossEncoder
from trivec.evaluation.datasets import RetrievalDataset
from trivec.evaluation.encodings import Encoder
from trivec.evaluation.fusion_weights import checked_fusion_weights
from trivec.evaluation.metrics import METRICS, estimate, macro_estimate, per_query_metrics
from trivec.evaluation.ranking import CROSS_ENCODER, DEFAULT_CANDIDATES, DatasetSearch, Run, available_modes
from trivec.evaluation.report import DatasetReport, EvaluationReport
from trivec.evaluation.through_milvus import MODES as MODES_THROUGH_MILVUS
from trivec.evaluation.through_milvus import ThroughMilvus
from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.search.exact import Float32, ScoredPairs
from trivec.search.fusion import FusionWeights, choose_weights
from trivec.search.modes import EVALUATED_MODES as MODES
from trivec.search.modes import Mode
from trivec.support.extras import require
from trivec.vectors.embeddings import asked_for

DEFAULT_BASELINE = "bm25-pieces"


@dataclass(frozen=True)
class EvaluationSettings:
    """How to search, and what to keep for the next time.

    Attributes:
        candidates: How many dense and how many sparse results the other modes re-rank, and how long rankings are;
            Recall@100 wants at least 100.
        max_batch_tokens: As in `M3Model.encode`.
        max_length: Most tokens of a text that are read; the model's own if None.
        mcls: As in `M3Model.encode`.
        cache_folder: Where encodings are kept; `default_cache_folder()` if None.
        use_cache: False keeps nothing after the call.
        show_progress: Show bars while encoding.
    """

    candidates: int = DEFAULT_CANDIDATES
    max_batch_tokens: int | None = None
    max_length: int | None = None
    mcls: int | None = None
    cache_folder: str | Path | None = None
    use_cache: bool = True
    show_progress: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates={self.candidates} must be at least 1")


_DEFAULTS = EvaluationSettings()


def evaluate(
    model: M3Model,
    datasets: Sequence[RetrievalDataset],
    settings: EvaluationSettings = _DEFAULTS,
    *,
    modes: Sequence[str] | None = None,
    fusion_weights: Sequence[float] | None = None,
    baseline: str | None = None,
    milvus: ThroughMilvus | None = None,
    reranker: M3Reranker | None = None,
) -> EvaluationReport:
    """Measure every mode of a model on some data sets.

    Args:
        model: The model.
        datasets: What to search; give languages as data sets of their own.
        settings: How to search, and what to keep for the next time.
        modes: Out of `MODES`; all that the model's heads allow, and the reranker if there is one, if None.
        fusion_weights: Of dense, sparse and multi-vector score; the model's own if None.
        baseline: A mode to test the others against; "bm25-pieces" if None and measured.
        milvus: Search by `multi` and `all` through Milvus Lite too, with token vectors kept so.
        reranker: What the mode "cross-encoder" re-ranks with.

    Returns:
        The figures, with the rankings they were computed from.

    Raises:
        ValueError: No data set, two of one name, an unknown mode, a baseline that is not measured, bad weights.
        MissingHeadError: A mode that was asked for needs a head that the model lacks.
        MissingExtraError: A package of the extra `eval` is missing.
    """
    modes = available_modes(model, reranker is not None) if modes is None else tuple(dict.fromkeys(modes))
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise ValueError(f"mode {(unknown or ['(none)'])[0]!r} is not one of {', '.join(MODES)}")
    if CROSS_ENCODER in modes and reranker is None:
        raise ValueError(f"mode {CROSS_ENCODER!r} needs a reranker: give reranker=M3Reranker.load(...)")
    weights = checked_fusion_weights(model.fusion_weights if fusion_weights is None else fusion_weights)
    if baseline is None:
        baseline = DEFAULT_BASELINE if DEFAULT_BASELINE in modes else None
    elif baseline not in modes:
        raise ValueError(f"baseline={baseline!r} is not among the measured modes: {', '.join(modes)}")
    through = {} if milvus is None else _modes_through(model)
    with _searches(model, datasets, settings, reranker) as searches:
        reports = [
            _evaluate_one(search, modes, weights, baseline, _through(model, search, settings, milvus, through, weights))
            for search in searches
        ]
    modes = (*modes, *through)
    macro = {
        mode: {name: macro_estimate([report.per_query[mode][name] for report in reports]) for name in METRICS}
        for mode in modes
    }
    return EvaluationReport(
        model=model.name,
        precision=model.precision,
        max_length=model.checked_length(settings.max_length),
        mcls=settings.mcls,
        fusion_weights=weights,
        candidates=settings.candidates,
        baseline=baseline,
        datasets=reports,
        macro=macro,
        reranker=None if reranker is None else f"{reranker.name} in {reranker.precision}",
    )


def tune_fusion(
    model: M3Model, datasets: Sequence[RetrievalDataset], settings: EvaluationSettings = _DEFAULTS
) -> tuple[FusionWeights, float]:
    """Choose the fusion weights by which `all` has the best nDCG@10, averaged over development data sets.

    Figures measured on the same data sets afterwards are flattered: evaluate on others. `store_fusion_weights` keeps
    the result in the model's folder.

    Args:
        model: A model with all three heads.
        datasets: The development data sets.
        settings: As for `evaluate`.

    Returns:
        The weights of dense, sparse and multi-vector score, with sum 1, and the nDCG@10 they reach on `datasets`.

    Raises:
        ValueError: No data set, or two of one name.
        MissingHeadError: The model lacks a head.
        MissingExtraError: A package of the extra `eval` is missing.
    """
    model.require_heads(sparse=True, colbert=True)
    with _searches(model, datasets, settings) as opened:
        searches = list(opened)
        candidates = [search.candidate_scores for search in searches]

    def quality(fused: list[Float32]) -> float:
        found = []
        for search, scored, score in zip(searches, candidates, fused, strict=True):
            best = ScoredPairs(scored.query, scored.document, score).top(10)
            values = per_query_metrics(search.as_run(best).rankings(), search.dataset.qrels, METRICS[:1])
            found.append(values[METRICS[0]].mean())
        return float(np.mean(found))

    return choose_weights([(one.dense, one.sparse, asked_for(one.multi_vector)) for one in candidates], quality)


@contextmanager
def _searches(
    model: M3Model,
    datasets: Sequence[RetrievalDataset],
    settings: EvaluationSettings,
    reranker: M3Reranker | None = None,
) -> Iterator[Iterator[DatasetSearch]]:
    """Give the searches of the data sets one after another, so that each is forgotten before the next is made."""
    names = [dataset.name for dataset in datasets]
    if not names:
        raise ValueError("no data set to evaluate on")
    for module in ("ir_measures", "bm25s"):  # not after hours of encoding
        require(module)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two data sets are called {repeated[0]!r}: rename one of them")
    with tempfile.TemporaryDirectory(prefix="trivec-") as temporary:
        # Without a cache the blocks are still kept as long as the call lasts, for they are read more than once.
        folder = (settings.cache_folder or default_cache_folder()) if settings.use_cache else temporary
        fingerprint = model.fingerprint if settings.use_cache else ""
        how = (settings.max_batch_tokens, settings.max_length, settings.mcls, settings.show_progress)
        encoder = Encoder(model, ArrayCache(folder), fingerprint, *how)
        cross_encoder = None
        if reranker is not None:
            of_reranker = reranker.fingerprint if settings.use_cache else ""
            cross_encoder = CrossEncoder(reranker, ArrayCache(folder), of_reranker, settings.show_progress)
        yield (DatasetSearch(encoder, dataset, settings.candidates, cross_encoder) for dataset in datasets)


def _modes_through(model: M3Model) -> dict[str, Mode]:
    """Return the modes through Milvus that a model's heads allow, by their names in tables."""
    model.require_heads(sparse=False, colbert=True)
    return {name: mode for name, mode in MODES_THROUGH_MILVUS.items() if model.has_sparse or mode != "all"}


def _through(
    model: M3Model,
    search: DatasetSearch,
    settings: EvaluationSettings,
    milvus: ThroughMilvus | None,
    modes: Mapping[str, Mode],
    weights: FusionWeights,
) -> dict[str, Run]:
    if milvus is None:
        return {}
    how = (settings.max_batch_tokens, settings.max_length)
    with milvus.collection(model, search.document_texts, *how) as collection:
        return {name: search.run_through(collection, mode, weights) for name, mode in modes.items()}


def _evaluate_one(
    search: DatasetSearch,
    modes: Sequence[str],
    weights: FusionWeights,
    baseline: str | None,
    through: Mapping[str, Run],
) -> DatasetReport:
    dataset = search.dataset
    runs = {mode: search.run(mode, weights) for mode in modes} | dict(through)
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
