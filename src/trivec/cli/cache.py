"""`trivec cache`: the converted models kept on disk."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from trivec.cli import reporting


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the converted models that are kept, the disk they take, and where they are.

    [dim]Examples:[/]

    trivec cache list

    trivec cache list --json | jq .bytes
    """
    from trivec.checkpoint.converted_cache import ConvertedCache

    cache = ConvertedCache()
    models = cache.entries()
    total = sum(model.bytes for model in models)
    if as_json:
        listed = [{**dataclasses.asdict(model), "path": str(model.path)} for model in models]
        reporting.print_json({"folder": str(cache.folder), "bytes": total, "models": listed})
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("converted from", overflow="fold")
    for name in ("precision", "trivec", "date"):
        table.add_column(name, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for model in models:
        facts = (model.source, model.precision, model.version, model.date, _megabytes(model.bytes))
        table.add_row(*map(Text, facts))
    console = Console()
    if models:
        console.print(table)
    console.print(Text(f"{_megabytes(total)} in {cache.folder}"), soft_wrap=True)


def clear() -> None:
    """Delete the converted models; the next load of a model converts it again.

    [dim]Examples:[/]

    trivec cache clear
    """
    from trivec.checkpoint.converted_cache import ConvertedCache

    cache = ConvertedCache()
    cleared = cache.clear()
    left = f"; left {cleared.being_written} that another process is writing" if cleared.being_written else ""
    typer.echo(reporting.safe(f"freed {_megabytes(cleared.freed)} in {cache.folder}{left}"))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
