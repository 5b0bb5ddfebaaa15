"""An evaluation report for people: tables in the terminal. Knows nothing of how the figures were made.

Figures are percentages. Behind a mean stands half the width of its 95 % interval; `*` marks a mean that differs from
the baseline's with p < 0.05.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from trivec.evaluation.metrics import METRICS, Estimate
from trivec.evaluation.report import EvaluationReport

SIGNIFICANT = 0.05


def tables(report: EvaluationReport) -> Iterator[Table]:
    """Yield the tables of a report: modes by metrics for one data set; for several, their macro-average and then
    nDCG@10 of each data set by mode.
    """  # noqa: D205
    if len(report.datasets) == 1:
        only = report.datasets[0]
        yield _by_metric(f"{only.name}: {only.queries} queries, {only.documents} documents", only.estimates)
        return
    yield _by_metric(f"Macro-average of {len(report.datasets)} data sets", report.macro)
    metric = METRICS[0]
    table = Table("data set", "queries", "documents", *report.modes, title=metric)
    for dataset in report.datasets:
        cells = [_cell(dataset.estimates[mode][metric]) for mode in report.modes]
        table.add_row(dataset.name, str(dataset.queries), str(dataset.documents), *cells)
    _align(table, first=1)
    yield table


def _by_metric(title: str, estimates: dict[str, dict[str, Estimate]]) -> Table:
    table = Table("mode", *METRICS, title=title)
    for mode, values in estimates.items():
        table.add_row(mode, *(_cell(values[metric]) for metric in METRICS))
    _align(table, first=1)
    return table


def _align(table: Table, first: int) -> None:
    for column in table.columns[first:]:
        column.justify = "right"
        column.no_wrap = True


def _cell(value: Estimate) -> str:
    text = f"{100 * value.mean:.1f}"
    if value.low is not None and value.high is not None:
        text += f" ±{50 * (value.high - value.low):.1f}"
    if value.p_value is None:
        return text
    return text + ("*" if value.p_value < SIGNIFICANT else " ")
