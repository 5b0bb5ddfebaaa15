"""`trivec eval`: how good a model is at finding things, as tables, JSON, TREC runs and a chart."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trivec.cli import options, reporting
from trivec.search.modes import EVALUATED_MODES, EvaluatedMode
from trivec.support.addresses import is_url
from trivec.vectors.token_forms import TokenForm

if TYPE_CHECKING:
    from trivec.evaluation import EvaluationReport, RetrievalDataset


_MODES = ", ".join(EVALUATED_MODES)
_SEARCH = "Search"
_ENCODING = "Encoding"


@options.grouped
def evaluate(
    model: options.ModelArgument,
    datasets: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET",
            help="Folders in BEIR, MIRACL or MLDR layout, .jsonl files of query/pos pairs, or folders of these.",
            show_default=False,
        ),
    ],
    *,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Which judgements to use where there are several. Default: test, or else dev."
        ),
    ] = None,
    mode: Annotated[
        list[EvaluatedMode] | None,
        typer.Option(
            metavar="MODE",
            help=f"A way to search; repeatable: {_MODES}. Default: all that there are heads and models for.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        EvaluatedMode | None,
        typer.Option(
            metavar="MODE", help="Mode that the others are tested against. Default: bm25-pieces.", show_default=False
        ),
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Cross-encoder that reranks what dense and sparse search find; adds the mode cross-encoder.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    candidates: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Dense and sparse results that the other modes rerank; also the length of rankings.",
            rich_help_panel=_SEARCH,
        ),
    ] = 200,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="D,S,M",
            help="Weights of dense, sparse and multi-vector scores. Default: the model's.",
            rich_help_panel="Fusion",
        ),
    ] = None,
    milvus: Annotated[
        TokenForm | None,
        typer.Option(
            help="Measure multi and all through Milvus Lite too, with token vectors stored in this form.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    pool: Annotated[
        int,
        typer.Option(
            min=1, max=4, help="With --milvus: how many token vectors become one, on average.", rich_help_panel=_SEARCH
        ),
    ] = 1,
    tune_fusion: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATASET",
            help="Choose the weights on this data set's development judgements; repeatable.",
            show_default=False,
            rich_help_panel="Fusion",
        ),
    ] = None,
    save_fusion: Annotated[
        bool,
        typer.Option(
            "--save-fusion", help="Write chosen weights into the model's config.json.", rich_help_panel="Fusion"
        ),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="Write all figures to this file.", rich_help_panel="Output"),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the tables to this file as Markdown.", rich_help_panel="Output"),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Write TREC run files into this folder.", rich_help_panel="Output"),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draw nDCG@10 as bars (.png, .svg, .pdf).", rich_help_panel="Output"),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Most tokens of a text that are read. Default: the model's own.",
            rich_help_panel=_ENCODING,
        ),
    ] = None,
    mcls: options.Mcls = None,
    max_batch_tokens: options.MaxBatchTokens = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Where encodings are kept. Default: evaluation in the folder that TRIVEC_CACHE names, "
            "else trivec/evaluation in the user's cache folder.",
            rich_help_panel=_ENCODING,
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Keep no encodings and no converted model for the next run.",
            rich_help_panel=_ENCODING,
        ),
    ] = False,
    model_options: options.ModelOptions,
) -> None:
    """Measure how well a model finds documents, in every mode, next to BM25.

    Every data set counts the same in the average, and so does every language, as each is a data set of its own.
    Encodings are kept, so that a second run takes seconds.

    [dim]Examples:[/]

    trivec eval BAAI/bge-m3 scifact/ nfcorpus/ --json figures.json --chart figures.png

    trivec eval my-model test.jsonl --mode dense --mode all --baseline dense

    trivec eval my-model test.jsonl --tune-fusion dev.jsonl --save-fusion

    trivec eval BAAI/bge-m3 scifact/ --reranker BAAI/bge-reranker-v2-m3 --candidates 50

    trivec eval my-model test.jsonl --milvus int8 --pool 2
    """
    # What can be wrong with the arguments is found before the model is loaded.
    _check_fusion_options(model, weights is not None, bool(tune_fusion), save_fusion)
    fusion = None if weights is None else _weights(weights)
    _check_baseline(mode, baseline)
    _check_reranker(mode, reranker)
    if pool > 1 and milvus is None:
        raise typer.BadParameter("--pool pools token vectors that Milvus keeps: give --milvus fp16 or int8 too")
    _check_folders({"--json": json_file, "--markdown": markdown, "--chart": chart})
    from trivec import evaluation
    from trivec.evaluation.chart import check_chart_path

    if chart is not None:
        check_chart_path(chart)
    held_out = [dataset for path in datasets for dataset in evaluation.load_datasets(path, split=split)]
    development = [dataset for path in tune_fusion or () for dataset in evaluation.load_datasets(path, split="dev")]
    _warn_of_shared_questions(development, held_out)
    settings = evaluation.EvaluationSettings(
        candidates=candidates,
        max_batch_tokens=max_batch_tokens,
        max_length=max_length,
        mcls=mcls,
        cache_folder=cache_dir,
        use_cache=not no_cache,
        show_progress=sys.stderr.isatty(),
    )
    if is_url(model):  # --no-cache is then about encodings alone
        model_options = replace(model_options, no_cache=False)
    with model_options.load(model) as loaded:
        if development:
            fusion, reached = evaluation.tune_fusion(loaded, development, settings)
            reporting.say(f"fusion weights {_shown(fusion)} reach nDCG@10 {100 * reached:.1f} on the development data")
        if save_fusion and fusion is not None:
            evaluation.store_fusion_weights(model, fusion)
        modes = None if mode is None else [one.value for one in mode]
        tested = None if baseline is None else baseline.value
        through = None if milvus is None else evaluation.ThroughMilvus(milvus, pool)
        with nullcontext() if reranker is None else model_options.load_reranker(reranker) as cross_encoder:
            report = evaluation.evaluate(
                loaded,
                held_out,
                settings,
                modes=modes,
                fusion_weights=fusion,
                baseline=tested,
                milvus=through,
                reranker=cross_encoder,
            )
    _show(report)
    if json_file is not None:
        report.write_json(json_file)
    if markdown is not None:
        markdown.write_text(evaluation.markdown_tables(report), encoding="utf-8")
    if runs is not None:
        report.write_runs(runs)
    if chart is not None:
        evaluation.write_chart(report, chart)


def _check_fusion_options(model: str, given: bool, tuned: bool, saved: bool) -> None:
    if given and tuned:
        raise typer.BadParameter("--weights are given or chosen with --tune-fusion, not both")
    if saved and not tuned:
        raise typer.BadParameter("--save-fusion needs --tune-fusion DATASET to choose weights on")
    if saved and not (Path(model) / "config.json").is_file():
        raise typer.BadParameter(f"--save-fusion: {model} is not a model folder that weights can be saved in")


def _check_baseline(modes: list[EvaluatedMode] | None, baseline: EvaluatedMode | None) -> None:
    if modes and baseline is not None and baseline not in modes:
        raise typer.BadParameter(f"--baseline {baseline.value} is not measured: give --mode {baseline.value} too")


def _check_reranker(modes: list[EvaluatedMode] | None, reranker: str | None) -> None:
    if reranker is None and modes and EvaluatedMode.cross_encoder in modes:
        raise typer.BadParameter("--mode cross-encoder needs --reranker MODEL")
    if reranker is not None and is_url(reranker):
        raise typer.BadParameter(f"--reranker {reranker}: scores are kept by the model's content, so name its files")


def _check_folders(files: dict[str, Path | None]) -> None:
    for option, path in files.items():
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"{option} {path}: there is no folder {path.parent}")


def _warn_of_shared_questions(development: list[RetrievalDataset], held_out: list[RetrievalDataset]) -> None:
    asked = {text for dataset in held_out for text in dataset.queries.values()}
    shared = len({text for dataset in development for text in dataset.queries.values()} & asked)
    if shared:
        reporting.say(
            f"warning: {shared} questions are in the development data too, which flatters all and dense+sparse"
        )


def _show(report: EvaluationReport) -> None:
    from rich.console import Console

    from trivec.evaluation.tables import legend, terminal_tables

    console = Console()
    tables = list(terminal_tables(report))
    if not console.is_terminal:  # a pipe or a file has no width to fit into
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, *(console.measure(table, options=unbounded).maximum for table in tables))
    for table in tables:
        console.print(table)
    console.print(legend(report), highlight=False)


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--weights {text!r} is not three numbers with commas between") from None


def _shown(weights: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{weight:g}" for weight in weights) + ")"
