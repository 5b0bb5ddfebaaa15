"""An evaluation report as a bar chart: one group of bars a data set, one bar a mode, with 95 % intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trivec.errors import TrivecError
from trivec.evaluation.metrics import METRICS, Estimate
from trivec.evaluation.report import EvaluationReport
from trivec.support.extras import require


def write_chart(report: EvaluationReport, path: str | Path, metric: str = METRICS[0]) -> None:
    """Draw a report's figures of one metric.

    Args:
        report: From `evaluate`.
        path: The image; its ending chooses the format (.png, .svg, .pdf).
        metric: Out of `METRICS`.

    Raises:
        MissingExtraError: `matplotlib` is not installed.
        TrivecError: The ending is not one of an image.
    """
    check_chart_path(path)
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    groups = {dataset.name: dataset.estimates for dataset in report.datasets}
    if len(groups) > 1:
        groups["macro-average"] = report.macro
    figure = Figure(figsize=(max(6.0, 1.2 + 0.22 * len(groups) * (len(report.modes) + 2)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 1 / (len(report.modes) + 1)
    for number, mode in enumerate(report.modes):
        values = [estimates[mode][metric] for estimates in groups.values()]
        places = np.arange(len(groups)) + (number - (len(report.modes) - 1) / 2) * width
        means = [100 * value.mean for value in values]
        axes.bar(
            places,
            means,
            width,
            label=mode,
            yerr=np.array([_errors(value) for value in values]).T,
            error_kw={"lw": 0.8},
        )
    axes.set_xticks(np.arange(len(groups)), list(groups), rotation=0 if len(groups) <= 4 else 45, ha="center")
    axes.set_ylabel(f"{metric} (%)")
    axes.set_ylim(0, 100)
    axes.set_title(report.model)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def check_chart_path(path: str | Path) -> None:
    """Make sure, before any work is done, that `write_chart` will be able to write a chart of this name.

    Raises:
        MissingExtraError: `matplotlib` is not installed.
        TrivecError: The ending is not one of an image.
    """
    formats = require("matplotlib.backend_bases", "eval").FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in formats:
        raise TrivecError(f"{path}: a chart's name ends in one of {', '.join(sorted(formats))}")


def _errors(value: Estimate) -> tuple[float, float]:
    """Lengths of the error bar below and above the mean; none without an interval."""
    if value.low is None or value.high is None:
        return 0.0, 0.0
    return 100 * max(0.0, value.mean - value.low), 100 * max(0.0, value.high - value.mean)
