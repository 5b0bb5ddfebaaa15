"""`trivec train`: fine-tune a model from JSONL files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from trivec.cli import options, reporting, settings_file

_BATCHES = "Batches"
_OPTIMISER = "Loss and optimiser"
_MEMORY = "Memory and device"
_RECORDS = "Evaluation and checkpoints"
# Share of the steps in which the learning rate rises, unless the settings say in how many it does.
_WARMUP = 0.1


def train(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA",
            help="JSONL files, or folders of them: query, pos, neg, pos_scores, neg_scores.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="The model to start from: a name, a folder or a hub id.",
            show_default=False,
            rich_help_panel="Model",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder of the result; an interrupted run in it goes on.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="JSON file of rarer settings: warmup_steps, loss_weights, bf16, ... (docs/training.md).",
        ),
    ] = None,
    revision: options.Revision = None,
    offline: options.Offline = False,
    heads: Annotated[
        str, typer.Option(metavar="NAMES", help="Heads to train, separated by commas.", rich_help_panel="Model")
    ] = "dense,sparse,colbert",
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Train the heads alone.", rich_help_panel="Model")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store float16 instead of float32.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed for the batches and for new heads.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=2, metavar="N", help="Queries in a batch.", rich_help_panel=_BATCHES)
    ] = 32,
    group_size: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Passages per query, including the right one.", rich_help_panel=_BATCHES),
    ] = 8,
    query_length: Annotated[
        int, typer.Option(min=4, metavar="N", help="Most tokens of a query.", rich_help_panel=_BATCHES)
    ] = 256,
    passage_length: Annotated[
        int, typer.Option(min=4, metavar="N", help="Most tokens of a passage.", rich_help_panel=_BATCHES)
    ] = 1024,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Optimiser steps; overrides --epochs.", rich_help_panel=_OPTIMISER),
    ] = None,
    epochs: Annotated[
        float, typer.Option(min=0.001, metavar="X", help="Passes over the data.", rich_help_panel=_OPTIMISER)
    ] = 1.0,
    learning_rate: Annotated[
        float, typer.Option(metavar="X", help="Highest learning rate.", rich_help_panel=_OPTIMISER)
    ] = 1e-5,
    temperature: Annotated[
        float, typer.Option(metavar="X", help="Number that every score is divided by.", rich_help_panel=_OPTIMISER)
    ] = 0.02,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSONL file to evaluate on; the best weights are kept instead of the last.",
            rich_help_panel=_RECORDS,
        ),
    ] = None,
    evaluate_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps between evaluations.", rich_help_panel=_RECORDS)
    ] = 500,
    save_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Steps between checkpoints.", rich_help_panel=_RECORDS)
    ] = 500,
    part_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Texts computed at a time, so that any batch fits into memory; slower.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cpu or cuda. Default: the fastest that is there.", rich_help_panel=_MEMORY),
    ] = None,
) -> None:
    """Fine-tune a model's dense, sparse and ColBERT heads together.

    The result is a folder in BAAI/bge-m3's layout, with logs and a picture of the losses in its folder `run`. The same
    command given again goes on from the last checkpoint there; with another model, other data or other settings it is
    refused.

    [dim]Examples:[/]

    trivec train pairs.jsonl --model BAAI/bge-m3 --out my-m3

    trivec train pairs.jsonl --model BAAI/bge-m3 --out my-m3 --held-out held_out.jsonl --part-size 8
    """
    # torch takes seconds to import: not before somebody trains.
    from trivec.training.fine_tune import RUN_FOLDER, BatchSettings, fine_tune
    from trivec.training.losses import LossSettings
    from trivec.training.run_folder import CHECKPOINT
    from trivec.training.trainer import TrainingSettings
    from trivec.training.training_data import count_steps

    devices = options.device_names(device) or []
    if len(devices) > 1:
        raise typer.BadParameter(f"--device {device} names several, and training runs on one")
    rarely: dict[str, Any] = {}
    if settings is not None:
        own = inspect.signature(train).parameters
        rarely = settings_file.read_settings(settings, LossSettings, TrainingSettings, but=own)
    try:
        loss = LossSettings(
            heads=tuple(head.strip() for head in heads.split(",")),
            temperature=temperature,
            **settings_file.of(LossSettings, rarely),
        )
        total = steps or count_steps(data, batch_size, epochs)
        how = TrainingSettings(
            steps=total,
            learning_rate=learning_rate,
            loss=loss,
            freeze_encoder=freeze_encoder,
            part_size=part_size,
            evaluate_every=evaluate_every,
            save_every=save_every,
            **{"warmup_steps": round(_WARMUP * total), **settings_file.of(TrainingSettings, rarely)},
        )
        progress = fine_tune(
            model,
            data,
            out,
            how,
            batches=BatchSettings(batch_size, group_size, query_length, passage_length, seed),
            held_out=held_out,
            device=devices[0] if devices else None,
            half=half,
            revision=revision,
            local_files_only=offline,
            show_progress=reporting.stderr.is_terminal,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except KeyboardInterrupt as stop:
        if (out / RUN_FOLDER / CHECKPOINT).exists():
            stop.args = (f"the same command goes on from the checkpoint in {out / RUN_FOLDER}",)
        else:
            stop.args = (f"nothing was kept yet, as no checkpoint was written (the first comes at step {save_every})",)
        raise
    run = out / RUN_FOLDER
    if progress.resumed_step == progress.step:
        typer.echo(f"{run} holds this very run, already finished: nothing was trained now.")
    elif progress.resumed_step:
        typer.echo(f"The run in {run} went on from step {progress.resumed_step}.")
    steps_done = "1 step" if progress.step == 1 else f"{progress.step:,} steps"
    typer.echo(f"{out}: {steps_done}, {progress.tokens:,} tokens in {progress.seconds:.0f} s.")
    typer.echo("The folder was loaded again and gives the trained model's vectors.")
    if progress.best_value is not None:
        typer.echo(f"best {progress.best_name}: {progress.best_value:.4f} at step {progress.best_step}")
    typer.echo(f"log and picture: {run}")
