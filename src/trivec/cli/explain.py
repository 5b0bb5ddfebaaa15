"""`trivec explain`: why a text matches a query, in the terminal or as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trivec.cli import options, reporting

if TYPE_CHECKING:
    from trivec.search.explanation import Explanation


@options.grouped
def explain(
    query: Annotated[str, typer.Argument(help="The query.", show_default=False)],
    text: Annotated[str, typer.Argument(help="The text.", show_default=False)],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", dir_okay=False, help="Write a page (.html) that shows it.", show_default=False),
    ] = None,
    language: Annotated[Literal["en", "ja"], typer.Option(help="Language of the page.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a text that are read. Default: the model's maximum.")
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    model_options: options.ModelOptions,
) -> None:
    """Show why a text matches a query: what each word weighs, and which words of the text answer a word of the query.

    [dim]Examples:[/]

    trivec explain "where was Turing born?" "Alan Turing was born in Maida Vale, London."

    trivec explain "where was Turing born?" "$(cat turing.md)" --out why.html
    """
    if out is not None and out.suffix != ".html":
        raise typer.BadParameter(f"--out {out} must end in .html")
    with model_options.load(model) as loaded:
        try:
            loaded.checked_length(max_length)
        except ValueError as error:
            raise typer.BadParameter(f"--max-length: {error}") from error
        explanation = loaded.explain(query, text, max_length=max_length)
    if out is not None:
        from trivec.page.explanation_page import explanation_page
        from trivec.support import part_files

        with part_files.replacing(out) as part:
            part.write_text(explanation_page(explanation, language), encoding="utf-8")
        reporting.say(f"wrote {out}")
    if as_json:
        reporting.print_json(explanation.to_dict())
    elif out is None:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("word of the query", overflow="fold")
    table.add_column("weight", justify="right")
    table.add_column("nearest words of the text", overflow="fold")
    text = explanation.text
    for number, word in enumerate(explanation.query_words):
        near = [] if explanation.alignment is None else explanation.best(number)
        spelled = ((explanation.text_words[i], value) for i, value in near)
        shown = ", ".join(f"{text[other.start : other.end]} {value:.2f}" for other, value in spelled)
        own = explanation.query[word.start : word.end]
        table.add_row(reporting.safe(own), f"{word.weight:.3f}", reporting.safe(shown))
    console = Console()
    console.print(table)
    console.print(", ".join(f"{mode} {score:.4f}" for mode, score in explanation.scores.items()))
    if explanation.truncated:
        reporting.warn("a text is longer than is read: the rest counts for nothing")
