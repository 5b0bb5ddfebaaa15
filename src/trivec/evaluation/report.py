"""What an evaluation found: figures, rankings, and the files they are written to.

Knows nothing of how they came to be, nor of tables and charts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.evaluation.metrics import METRICS, Estimate
from trivec.evaluation.ranking import Run
from trivec.search.fusion import FusionWeights

Estimates = dict[str, dict[str, Estimate]]
"""By mode, then by metric."""
_UNSAFE = re.compile(r"[^\w.-]")  # what a data set's name may hold and a file's should not


@dataclass(frozen=True, repr=False)
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
    per_query: dict[str, dict[str, npt.NDArray[np.float64]]]
    query_ids: Sequence[str]
    runs: dict[str, Run]

    def __repr__(self) -> str:
        size = f"{self.queries:,} queries, {self.documents:,} documents"
        return f"DatasetReport({self.name!r}, {size}, {_shown(self.estimates)})"


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """What `evaluate` returns.

    Attributes:
        model: Name of the model.
        precision: What it computed in.
        max_length: Most tokens of a text that were read.
        mcls: After how many tokens one more `<s>` stood; None: there was one.
        fusion_weights: Weights of dense, sparse and multi-vector score in `dense+sparse` and `all`.
        candidates: How many dense and how many sparse results were re-ranked.
        baseline: The mode that p-values compare with, or None.
        datasets: One report each.
        macro: Means over the data sets by mode and metric, each data set counting the same.
        reranker: Name and precision of what `cross-encoder` re-ranked with, or None.
    """

    model: str
    precision: str
    max_length: int
    mcls: int | None
    fusion_weights: FusionWeights
    candidates: int
    baseline: str | None
    datasets: list[DatasetReport]
    macro: Estimates
    reranker: str | None = None

    def __repr__(self) -> str:
        names = ", ".join(repr(dataset.name) for dataset in self.datasets[:3])
        more = f" and {len(self.datasets) - 3} more" if len(self.datasets) > 3 else ""
        return f"EvaluationReport({self.model!r} in {self.precision} on {names}{more}, {_shown(self.macro)})"

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
            "mcls": self.mcls,
            "fusion_weights": list(self.fusion_weights),
            "reranker": self.reranker,
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


def _shown(estimates: Estimates) -> str:
    """The first metric of each mode, per cent, for people to read."""
    means = [f"{mode} {100 * metrics[METRICS[0]].mean:.1f}" for mode, metrics in estimates.items()]
    return f"{METRICS[0]} {', '.join(means)}"


def _plain(estimates: Estimates) -> dict[str, dict[str, dict[str, float | None]]]:
    return {mode: {name: asdict(value) for name, value in by_metric.items()} for mode, by_metric in estimates.items()}
