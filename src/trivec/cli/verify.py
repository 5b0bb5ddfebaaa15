"""`trivec verify`: a model's values beside the published ones, or a precision beside the exact one on given texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trivec.cli import options, reporting
from trivec.support.addresses import is_url

if TYPE_CHECKING:
    from rich.table import Table

    from trivec.verify.drift import Drift
    from trivec.verify.published import Comparison

_EXACT: options.Precision = "fp32"


@options.grouped
def verify(
    model: options.ModelArgument,
    *,
    texts: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Compare with fp32 on these texts: a line of .txt, a record of .jsonl, .csv or .parquet.",
            show_default=False,
        ),
    ] = None,
    text_field: options.TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="With --texts: print JSON instead of a table.")] = False,
    precision: Annotated[
        options.Precision | None,
        typer.Option(
            help="Precision to compute in. Default: fp32; with --texts: auto. A server decides by itself.",
            show_default=False,
            rich_help_panel="Model",
        ),
    ] = None,
    model_options: options.ModelOptions,
) -> None:
    """Check that a model gives the values published for BAAI/bge-m3, or what a precision changes on your texts.

    Encodes the texts of the Milvus page "BGE M3" and of FlagEmbedding's BGE-M3 page and sets their printed values
    beside the computed ones. Tolerances, absolute: elements of dense vectors 1e-4, weights and scores 2e-3 (that page
    was computed in half precision); in bf16 5e-3 and 2e-2, in int8 twice that; dimensions and element counts must be
    equal. A value that differs by more makes the exit code 1, as it will for any model but BAAI/bge-m3 itself.

    With [bold]--texts[/] it measures instead how far a precision lies from fp32 on every text of a file: cosine of the
    dense vectors, nearest neighbours in common, differences of sparse weights, token vectors and MaxSim. It reports and
    does not judge: the exit code is 0 however far they lie apart, and 0 where auto means fp32, which changes nothing.
    Loads the model twice and encodes each text at least twice in both precisions.

    A cross-encoder is compared with the scores that the Milvus page "BGE" of rerankers and FlagEmbedding's page of
    BAAI/bge-reranker-v2-m3 print; its [bold]--texts[/] are a .jsonl file whose rows hold a query and its passages:
    query, pos and neg.

    [dim]Examples:[/]

    trivec verify BAAI/bge-m3

    trivec verify ./bge-m3 --precision bf16

    trivec verify ./bge-m3 --texts sample.jsonl --text-field body --json | jq .dense.cosine_min
    """
    _check(model, texts, as_json)
    if not is_url(model) and model_options.is_cross_encoder(model):
        from trivec.cli import verify_reranker

        verify_reranker.verify(model, texts, as_json, precision, model_options)
        return
    if texts is None:
        exact = "auto" if is_url(model) else _EXACT  # what a server computes in is its own
        with replace(model_options, precision=precision or exact).load(model) as loaded:
            from trivec.verify.published import compare_with_published

            show_comparisons(compare_with_published(loaded), loaded.precision)
        return
    asked_for = replace(model_options, precision=precision or "auto")
    if asked_for.precision == _EXACT:
        raise typer.BadParameter(f"--texts compares with fp32 itself: {other_precisions(asked_for)}")
    from trivec.documents import DocumentError, read_texts
    from trivec.verify.drift import measure_drift

    documents = list(read_texts(texts, text_field=text_field))
    if not documents:
        raise DocumentError(f"{texts} holds no text to compare fp32 with {asked_for.precision} on")
    drift = None
    with asked_for.load(model) as other:
        if other.precision != _EXACT:
            with replace(asked_for, precision=_EXACT).load(model) as exact:
                read = [document.text for document in documents]
                drift = measure_drift(exact, other, read, show_progress=reporting.stderr.is_terminal)
    if drift is None:
        reporting.say(
            f"{asked_for.precision} means fp32 on this machine, which is exact, so nothing changes on these texts; "
            f"{other_precisions(asked_for)}"
        )
    else:
        worst = documents[drift.dense.worst_text].id
        reporting.say(_summary(drift, other.precision, reporting.safe(worst)))
    if as_json:
        facts: dict[str, Any] = {"model": model, "precision": other.precision, "compared_with": _EXACT}
        if drift is None:
            facts |= {"texts": len({document.text for document in documents})}
            facts |= dict.fromkeys(("dense", "sparse", "token_vectors"))
        else:
            facts |= asdict(drift)
            facts["dense"]["worst_text"] = worst
        reporting.print_json(facts)
    elif drift is not None:
        from rich.console import Console

        Console().print(_table(drift))


def _check(model: str, texts: Path | None, as_json: bool) -> None:
    if texts is None and as_json:
        raise typer.BadParameter("--json goes with --texts FILE")
    if texts is not None and is_url(model):
        raise typer.BadParameter(f"--texts compares two precisions, and {model} computes in one: give the model itself")


def other_precisions(asked_for: options.ModelOptions) -> str:
    """Say which precisions but fp32 would be measured rather than refused."""
    from trivec.engines.processor import has_bf16, offers_int8
    from trivec.engines.selection import choose_engine

    kind, _ = choose_engine(asked_for.engine, asked_for.devices)
    if kind == "torch":  # which computes in bf16 too, but not on every GPU
        return "to measure another precision pass --precision fp16"
    there = [name for name, has in (("bf16", has_bf16), ("int8", offers_int8)) if has()]
    if there:
        return f"to measure another precision pass --precision {' or '.join(there)}"
    return "this processor computes in fp32 alone"


def show_comparisons(comparisons: Sequence[Comparison], precision: str) -> None:
    """Print published values beside the computed ones; exit with 1 where one differs by more than it may."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("value")
    for name in ("published", "computed", "difference", "tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in comparisons:
        style = "" if each.agrees else "red"
        numbers = (f"{each.published:.8g}", f"{each.computed:.8g}", f"{abs(each.published - each.computed):.2g}")
        table.add_row(Text(each.what), *numbers, f"{each.tolerance:g}", style=style)
    agreeing = sum(each.agrees for each in comparisons)
    verdict = f"{agreeing} of {len(comparisons)} published values agree (computed in {precision})"
    if agreeing < len(comparisons):
        verdict += "; those in red differ" if Console().is_terminal else ""
    reporting.say(verdict)  # before the table, whose end is all that a terminal shows of it
    Console().print(table)
    if agreeing < len(comparisons):
        raise typer.Exit(reporting.FAILED)


def _table(drift: Drift) -> Table:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for name in ("vectors", "what"):
        table.add_column(name)
    table.add_column("value", justify="right", no_wrap=True)
    dense, sparse, tokens = drift.dense, drift.sparse, drift.token_vectors
    table.add_row("dense", "cosine, smallest", f"{dense.cosine_min:.6f}")
    table.add_row("", "cosine, 1st percentile", f"{dense.cosine_p1:.6f}")
    table.add_row("", "cosine, 5th percentile", f"{dense.cosine_p5:.6f}")
    table.add_row("", "cosine, median", f"{dense.cosine_median:.6f}")
    if dense.neighbour_overlap is not None:
        table.add_row("", f"{dense.neighbours} nearest neighbours in common", f"{dense.neighbour_overlap:.1%}")
    if sparse is not None:
        table.add_row("sparse", "weight difference, largest", f"{sparse.difference_max:.2g}")
        table.add_row("", "weight difference, mean", f"{sparse.difference_mean:.2g}")
        table.add_row("", "weights in one of the two only", f"{sparse.unshared:.1%}")
    if tokens is not None:
        table.add_row("token", "cosine, smallest", f"{tokens.cosine_min:.6f}")
        table.add_row("", "cosine, mean", f"{tokens.cosine_mean:.6f}")
        if tokens.maxsim_difference_max is not None and tokens.maxsim_difference_mean is not None:
            nearest = "MaxSim difference with the nearest neighbour"
            table.add_row("", f"{nearest}, largest", f"{tokens.maxsim_difference_max:.2g}")
            table.add_row("", f"{nearest}, mean", f"{tokens.maxsim_difference_mean:.2g}")
    return table


def _summary(drift: Drift, precision: str, worst: str) -> str:
    texts = "1 text" if drift.texts == 1 else f"{drift.texts} distinct texts"
    line = f"{precision} beside fp32 on {texts}: dense cosine at least {drift.dense.cosine_min:.6f} ({worst})"
    overlap = drift.dense.neighbour_overlap
    if overlap is None:
        return f"{line}; a single text has no neighbours to compare"
    return f"{line}; {overlap:.1%} of the {drift.dense.neighbours} nearest neighbours in common"
