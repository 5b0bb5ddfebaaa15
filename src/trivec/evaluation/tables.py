"""An evaluation report for people: tables for the terminal or for a Markdown file.

Figures are percentages. Behind a mean stands half the width of its 95 % interval; `*` marks a mean that differs from
the baseline's with p < 0.05. Knows nothing of how the figures were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from trivec.evaluation.metrics import METRICS, Estimate
from trivec.evaluation.report import EvaluationReport

SIGNIFICANT = 0.05


class _Grid(NamedTuple):
    """A table's texts; all columns but the first hold figures."""

    title: str
    header: list[str]
    rows: list[list[str]]


def terminal_tables(report: EvaluationReport) -> Iterator[Table]:
    """Yield a report's tables for rich to print: modes by metrics; for several data sets also data sets by modes."""
    for grid in _grids(report):
        table = Table(*grid.header, title=grid.title, box=SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
        for row in grid.rows:
            table.add_row(*row)
        for column in table.columns:
            column.overflow = "fold"  # a narrow terminal breaks names and figures, and cuts none off
        for column in table.columns[1:]:
            column.justify = "right"
        yield table


def markdown_tables(report: EvaluationReport) -> str:
    """The tables of `terminal_tables` as Markdown, with a line that says how to read them."""
    parts = []
    for grid in _grids(report):
        lines = [grid.header, ["---", *["---:"] * (len(grid.header) - 1)], *grid.rows]
        parts.append(f"**{grid.title}**\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join([*parts, legend(report)]) + "\n"


def legend(report: EvaluationReport) -> str:
    """One line on what was measured and what the signs in the tables mean."""
    weights = ", ".join(f"{weight:g}" for weight in report.fusion_weights)
    text = (
        f"{report.model} in {report.precision}, fusion weights ({weights}). ±: half of the 95 % interval over queries."
    )
    if report.reranker:
        text += f" cross-encoder: {report.reranker}."
    if report.baseline:
        text += f" *: differs from {report.baseline}, p < {SIGNIFICANT} (paired t-test)."
    return text


def _grids(report: EvaluationReport) -> Iterator[_Grid]:
    if len(report.datasets) == 1:
        only = report.datasets[0]
        yield _by_metric(f"{only.name}: {only.queries} queries, {only.documents} documents", only.estimates)
        return
    yield _by_metric(f"Macro-average of {len(report.datasets)} data sets", report.macro)
    metric = METRICS[0]
    rows = [
        [
            dataset.name,
            str(dataset.queries),
            str(dataset.documents),
            *(_cell(dataset.estimates[mode][metric]) for mode in report.modes),
        ]
        for dataset in report.datasets
    ]
    yield _Grid(metric, ["data set", "queries", "documents", *report.modes], rows)


def _by_metric(title: str, estimates: dict[str, dict[str, Estimate]]) -> _Grid:
    rows = [[mode, *(_cell(values[metric]) for metric in METRICS)] for mode, values in estimates.items()]
    return _Grid(title, ["mode", *METRICS], rows)


def figure(value: Estimate) -> str:
    """A mean with half of its interval, and "*" if it differs from the baseline's."""
    text = f"{100 * value.mean:.1f}"
    if value.low is not None and value.high is not None:
        text += f" ±{50 * (value.high - value.low):.1f}"
    return text + "*" * (value.p_value is not None and value.p_value < SIGNIFICANT)


def _cell(value: Estimate) -> str:
    """A blank stands where other figures of the column may have a star."""
    return figure(value) + " " * (value.p_value is not None and value.p_value >= SIGNIFICANT)
