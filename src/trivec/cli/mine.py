"""`trivec mine`: hard negatives for a training file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trivec.cli import options, reporting
from trivec.cli.reporting import amount
from trivec.cli.sources import say_left_out
from trivec.search.modes import PairMode


def _checked_margin(margin: float) -> float:
    if not 0 <= margin < 1:
        raise typer.BadParameter(f"{margin:g} is not at least 0 and below 1")
    return margin


@options.grouped
def mine(
    questions: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON lines with query (or queries), pos, and optionally neg.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(dir_okay=False, help="The training file to write: a row for each query.", show_default=False),
    ],
    *,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="Where to look: files and folders as for index; repeatable. Default: texts of QUESTIONS.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[PairMode, typer.Option(help="Which vectors to search.")] = "dense",
    negatives: Annotated[int, typer.Option(min=1, help="Most negatives of a query.")] = 15,
    ranks: Annotated[
        str, typer.Option(metavar="FIRST-LAST", help="Ranks to draw negatives from; positives have no rank.")
    ] = "2-200",
    margin: Annotated[
        float,
        typer.Option(
            callback=_checked_margin, help="Leave out what scores above (1 - margin) times the query's worst positive."
        ),
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed for drawing the negatives.")] = 0,
    text_field: options.TextField = "text",
    id_field: options.IdField = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Most tokens of a passage that are read. Default: the model's own.")
    ] = None,
    max_batch_tokens: options.MaxBatchTokens = None,
    model: options.Model = options.DEFAULT_MODEL,
    model_options: options.ModelOptions,
) -> None:
    """Find hard negatives: passages that a model ranks high although they do not answer the query.

    The corpus is searched in a temporary Milvus Lite file. The output has FlagEmbedding's training format; negatives
    that QUESTIONS lists stay, and the mined ones follow them.

    [dim]Examples:[/]

    trivec mine questions.jsonl train.jsonl --corpus passages.jsonl

    trivec mine questions.jsonl train.jsonl --mode hybrid --ranks 10-100 --negatives 7 --model my-model
    """
    first_and_last = _ranks(ranks)
    from trivec.documents import DocumentFiles
    from trivec.mining import mine_negatives

    documents = None
    if corpus is not None:
        files = DocumentFiles(corpus, text_field=text_field, id_field=id_field, metadata_fields=[])
        say_left_out(files)
        documents = files.read()
    with model_options.load(model) as loaded:
        mined = mine_negatives(
            loaded,
            questions,
            output,
            corpus=documents,
            mode=mode,
            negatives=negatives,
            ranks=first_and_last,
            margin=margin,
            seed=seed,
            max_batch_tokens=max_batch_tokens,
            max_length=max_length,
            show_progress=sys.stderr.isatty(),
        )
    told = [f"{output}: {amount(mined.queries, 'query', 'queries')}, {amount(mined.negatives, 'mined negative')}"]
    if mined.short:
        told.append(f"{mined.short:,} of the queries have fewer than {negatives} mined")
    if mined.too_close:
        told.append(f"{amount(mined.too_close, 'passage')} left out as too close to a positive")
    reporting.say("; ".join(told))


def _ranks(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit()) or not 1 <= int(first) <= int(last):
        raise typer.BadParameter(f"--ranks {text!r} is not two ranks from 1 up, such as 2-200")
    return int(first), int(last)
