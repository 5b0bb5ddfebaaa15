"""`trivec mine`: hard negatives for a training file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer


def mine(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model to search with.", show_default=False)],
    questions: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON lines with query (or queries), pos and optionally neg.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            dir_okay=False, help="The training file to write: one row a query, with neg.", show_default=False
        ),
    ],
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="Where to look for negatives: .jsonl, .csv, .parquet, .txt or .md, or folders; repeat for several. "
            "By default the pos and neg texts of QUESTIONS.",
            show_default=False,
        ),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of the corpus's records that holds the text.")] = "text",
    mode: Annotated[str, typer.Option(help="dense, sparse or hybrid.")] = "dense",
    negatives: Annotated[int, typer.Option(min=1, help="Negatives a query, at most.")] = 15,
    ranks: Annotated[
        str, typer.Option(metavar="FIRST-LAST", help="Ranks to draw from, positives not counted.")
    ] = "2-200",
    margin: Annotated[
        float,
        typer.Option(help="Leave out passages that score above (1 - margin) times the query's worst positive."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Most tokens of a passage that are read; the model's own by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Memory knob: 256 tokens a batch for each.")] = 16,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
) -> None:
    """Find hard negatives: passages that the model ranks high though they do not answer the query."""
    from rich.console import Console

    from trivec.documents import read_documents
    from trivec.errors import TrivecError
    from trivec.mining import Mode, mine_negatives
    from trivec.model import M3Model

    console = Console()
    documents = None if corpus is None else read_documents(corpus, text_field=text_field)
    with M3Model.load(model, precision=precision) as loaded:
        try:
            mined = mine_negatives(
                loaded,
                questions,
                output,
                corpus=documents,
                mode=cast("Mode", mode),
                negatives=negatives,
                ranks=_ranks(ranks),
                margin=margin,
                seed=seed,
                batch_size=batch_size,
                max_length=max_length,
                show_progress=console.is_terminal,
            )
        except ValueError as error:
            raise TrivecError(str(error)) from error
    console.print(
        f"{output}: {mined.queries} queries with {mined.negatives} mined negatives; {mined.short} queries have fewer "
        f"than {negatives}; {mined.too_close} passages left out as too close to a positive",
        highlight=False,
        soft_wrap=True,
    )


def _ranks(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit()):
        raise typer.BadParameter(f"{text!r} is not two ranks such as 2-200", param_hint="--ranks")
    return int(first), int(last)
