"""`trivec verify` of a cross-encoder: its scores beside published ones, or a precision beside fp32 on given pairs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from trivec.cli import options, reporting
from trivec.cli.verify import other_precisions, show_comparisons

if TYPE_CHECKING:
    from rich.table import Table

    from trivec.verify.reranker import RerankerDrift

_EXACT: options.Precision = "fp32"


def verify(
    model: str,
    texts: Path | None,
    as_json: bool,
    precision: options.Precision | None,
    model_options: options.ModelOptions,
) -> None:
    """Do what `trivec verify` says of cross-encoders; the parameters are its own, checked."""
    from trivec.verify.reranker import compare_reranker_with_published, measure_reranker_drift

    if texts is None:
        with replace(model_options, precision=precision or _EXACT).load_reranker(model) as loaded:
            show_comparisons(compare_reranker_with_published(loaded), loaded.precision)
        return
    asked_for = replace(model_options, precision=precision or "auto")
    if asked_for.precision == _EXACT:
        raise typer.BadParameter(f"--texts compares with fp32 itself: {other_precisions(asked_for)}")
    passages = _passages(texts)
    drift = None
    with asked_for.load_reranker(model) as other:
        if other.precision != _EXACT:
            with replace(asked_for, precision=_EXACT).load_reranker(model) as exact:
                drift = measure_reranker_drift(exact, other, passages, show_progress=reporting.stderr.is_terminal)
    if drift is None:
        reporting.say(
            f"{asked_for.precision} means fp32 on this machine, which is exact, so nothing changes on these pairs; "
            f"{other_precisions(asked_for)}"
        )
    if as_json:
        facts: dict[str, Any] = {"model": model, "precision": other.precision, "compared_with": _EXACT}
        reporting.print_json(facts | {"scores": None if drift is None else asdict(drift)})
    elif drift is not None:
        from rich.console import Console

        reporting.say(f"{other.precision} beside fp32 on {drift.pairs} pairs of {drift.queries} queries")
        Console().print(_table(drift))


def _passages(path: Path) -> dict[str, list[str]]:
    """Read the passages of each query, right and wrong ones."""
    from trivec.evaluation import load_datasets

    passages: dict[str, list[str]] = {}
    for dataset in load_datasets(path):
        for query, judged in dataset.qrels.items():
            passages.setdefault(dataset.queries[query], []).extend(dataset.documents[one] for one in judged)
    return passages


def _table(drift: RerankerDrift) -> Table:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("what")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_row("score difference, largest", f"{drift.difference_max:.2g}")
    table.add_row("score difference, mean", f"{drift.difference_mean:.2g}")
    table.add_row("after the sigmoid, largest", f"{drift.normalized_difference_max:.2g}")
    if drift.same_order is not None and drift.same_best is not None:
        table.add_row("two passages of a query in the same order", f"{drift.same_order:.1%}")
        table.add_row("queries with the same best passage", f"{drift.same_best:.1%}")
    query, passage = (reporting.safe(" ".join(text.split())[:60]) for text in drift.worst_pair)
    table.add_row("largest difference at", f"{query} | {passage}")
    return table
