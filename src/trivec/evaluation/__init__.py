"""How good is a model at finding things? Data sets, the modes of search, metrics with intervals, fusion weights.

Needs the extra `eval` (`pip install "trivec[eval]"`), of which a part is loaded when it is first used.

Example:
    >>> from trivec import M3Model
    >>> from trivec.evaluation import evaluate, load_datasets
    >>> report = evaluate(M3Model.load("BAAI/bge-m3"), load_datasets("scifact"))  # doctest: +SKIP
    >>> report.macro["all"]["nDCG@10"].mean  # doctest: +SKIP
"""

from __future__ import annotations

from trivec.evaluation.array_cache import default_cache_folder
from trivec.evaluation.chart import write_chart
from trivec.evaluation.datasets import DatasetError, RetrievalDataset, load_datasets
from trivec.evaluation.evaluate import EvaluationSettings, evaluate, tune_fusion
from trivec.evaluation.fusion_weights import store_fusion_weights
from trivec.evaluation.html_report import html_report
from trivec.evaluation.metrics import METRICS, Estimate
from trivec.evaluation.report import DatasetReport, EvaluationReport
from trivec.evaluation.tables import markdown_tables, terminal_tables
from trivec.evaluation.through_milvus import ThroughMilvus
from trivec.search.modes import EVALUATED_MODES as MODES

__all__ = [
    "METRICS",
    "MODES",
    "DatasetError",
    "DatasetReport",
    "Estimate",
    "EvaluationReport",
    "EvaluationSettings",
    "RetrievalDataset",
    "ThroughMilvus",
    "default_cache_folder",
    "evaluate",
    "html_report",
    "load_datasets",
    "markdown_tables",
    "store_fusion_weights",
    "terminal_tables",
    "tune_fusion",
    "write_chart",
]
