"""`trivec verify`: a model's values beside the published ones."""

from __future__ import annotations

from typing import Annotated

import typer

from trivec.cli import options, reporting


def verify(
    model: Annotated[str, typer.Argument(help="A folder in BAAI/bge-m3's layout, or a Hugging Face id.")],
    precision: options.PrecisionOption = options.Precision.fp32,
    device: options.Device = None,
    engine: options.EngineOption = options.Engine.auto,
    revision: options.Revision = None,
    offline: options.Offline = False,
    threads: options.Threads = None,
) -> None:
    """Check that a model gives the values published for BAAI/bge-m3.

    Encodes the texts of the Milvus page "BGE M3" and of FlagEmbedding's BGE-M3 page and sets their printed values
    beside the computed ones. Tolerances, absolute: elements of dense vectors 1e-4, weights and scores 2e-3 (that page
    was computed in half precision); in bf16 5e-3 and 2e-2; dimensions and element counts must be equal. A value that
    differs by more makes the exit code 1, as it will for any model but BAAI/bge-m3 itself.

    [dim]Examples:[/]

    trivec verify BAAI/bge-m3

    trivec verify ./bge-m3 --precision bf16
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trivec.published import compare_with_published

    with options.load_model(model, precision, device, engine, revision, offline, threads) as loaded:
        comparisons = compare_with_published(loaded)
        computed_in = loaded.precision
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("value")
    for name in ("published", "computed", "difference", "tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in comparisons:
        style = "" if each.agrees else "red"
        numbers = (f"{each.published:.8g}", f"{each.computed:.8g}", f"{abs(each.published - each.computed):.2g}")
        table.add_row(Text(each.what), *numbers, f"{each.tolerance:g}", style=style)
    Console().print(table)
    agreeing = sum(each.agrees for each in comparisons)
    reporting.say(f"{agreeing} of {len(comparisons)} published values agree (computed in {computed_in})")
    if agreeing < len(comparisons):
        raise typer.Exit(reporting.FAILED)
