"""`trivec eval`: how good a model is at finding things, as tables, JSON, TREC runs and a chart."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trivec.evaluation import EvaluationReport, EvaluationSettings, RetrievalDataset


def evaluate_model(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.", show_default=False)],
    datasets: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET...",
            help="Folders in BEIR, MIRACL or MLDR layout, .jsonl files of query/pos pairs, or folders of these.",
            show_default=False,
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help="Which judgements to use where there are several; test, else dev, by default.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="dense, sparse, multi-vector, dense+sparse, all, bm25-words or bm25-pieces; repeat for several. "
            "By default all that the model has heads for.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="D,S,M", help="Fusion weights of dense, sparse and multi-vector; the model's by default."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Mode that the others are tested against; bm25-pieces by default.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Dense and sparse results that the other modes re-rank; length of rankings.")
    ] = 200,
    exact_limit: Annotated[
        int, typer.Option(min=0, help="Documents up to which search is exact; beyond, Milvus Lite searches.")
    ] = 500_000,
    tune_fusion: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATASET",
            help="Choose fusion weights on this development data set and evaluate with them; repeat for several.",
            show_default=False,
        ),
    ] = None,
    tune_split: Annotated[str, typer.Option(help="Which judgements of the development data sets to use.")] = "dev",
    save_fusion: Annotated[
        bool, typer.Option("--save-fusion", help="Write the chosen weights into the model's config.json.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write all figures to this file.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(file_okay=False, help="Write TREC run files into this folder.")] = None,
    chart: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw nDCG@10 as bars into this file (.png, .svg, .pdf).")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Most tokens of a text that are read; the model's own by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Memory knob: 256 tokens a batch for each.")] = 16,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    cache_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where encodings are kept for the next run.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no encodings.")] = False,
) -> None:
    """Measure a model on retrieval data sets, next to BM25.

    Every data set (so every language) counts the same in the average. Encodings are kept, so a second run is instant.
    """
    from trivec.evaluation import EvaluationSettings, load_datasets
    from trivec.evaluation.chart import check_chart_path

    # Everything that can be wrong with the arguments is found before the model is loaded.
    if save_fusion:
        _check_save_fusion(model, bool(tune_fusion))
    if weights is not None and tune_fusion:
        raise typer.BadParameter("give weights, or have them chosen with --tune-fusion", param_hint="--weights")
    given = None if weights is None else _weights(weights)
    if chart is not None:
        check_chart_path(chart)
    measured = [dataset for path in datasets for dataset in load_datasets(path, split=split)]
    development = [dataset for path in tune_fusion or () for dataset in load_datasets(path, split=tune_split)]
    settings = EvaluationSettings(
        candidates, exact_limit, batch_size, max_length, cache_dir, not no_cache, show_progress=sys.stderr.isatty()
    )
    report = _measure(model, precision, measured, development, settings, mode, given, baseline, save_fusion)
    _show(report)
    if json_file is not None:
        report.write_json(json_file)
    if runs is not None:
        report.write_runs(runs)
    if chart is not None:
        from trivec.evaluation import write_chart

        write_chart(report, chart)


def _check_save_fusion(model: str, tuned: bool) -> None:
    if not tuned:
        raise typer.BadParameter("needs --tune-fusion DATASET to choose weights on", param_hint="--save-fusion")
    if not (Path(model) / "config.json").is_file():
        raise typer.BadParameter(f"{model} is not a model folder to save weights in", param_hint="--save-fusion")


def _measure(
    name: str,
    precision: str,
    measured: list[RetrievalDataset],
    development: list[RetrievalDataset],
    settings: EvaluationSettings,
    modes: list[str] | None,
    weights: tuple[float, ...] | None,
    baseline: str | None,
    save_fusion: bool,
) -> EvaluationReport:
    from rich import print as show

    from trivec.errors import TrivecError
    from trivec.evaluation import evaluate, store_fusion_weights, tune_fusion
    from trivec.model import M3Model

    with M3Model.load(name, precision=precision) as model:
        try:
            if development:
                weights, reached = tune_fusion(model, development, settings)
                show(f"Fusion weights {_shown(weights)} reach nDCG@10 {100 * reached:.1f} on the development data.")
            if save_fusion and weights is not None:
                store_fusion_weights(name, weights)
                show(f"Saved in {Path(name) / 'config.json'}.")
            return evaluate(model, measured, settings, modes=modes, fusion_weights=weights, baseline=baseline)
        except ValueError as error:
            raise TrivecError(str(error)) from error


def _show(report: EvaluationReport) -> None:
    from rich.console import Console

    from trivec.evaluation import tables

    console = Console()
    for table in tables(report):
        console.print(table)
    console.print(
        f"{report.model} in {report.precision}, fusion weights {_shown(report.fusion_weights)}.", highlight=False
    )
    console.print("±: half of the 95 % interval over queries.", highlight=False)
    if report.baseline:
        console.print(f"*: differs from {report.baseline}, p < 0.05 (paired t-test).", highlight=False)


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not three numbers with commas between", param_hint="--weights") from None


def _shown(weights: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{weight:g}" for weight in weights) + ")"
