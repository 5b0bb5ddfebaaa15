"""`trivec train`: fine-tune a model from JSONL files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trivec.cli import reporting

_BATCHES = "Batches"
_LOSS = "Loss"
_OPTIMISER = "Optimiser"
_MEMORY = "Memory and device"
_RECORDS = "Evaluation and checkpoints"


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
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder of the result; a run interrupted there goes on.",
            show_default=False,
        ),
    ],
    heads: Annotated[str, typer.Option(metavar="NAMES", help="Heads to train, separated by commas.")] = (
        "dense,sparse,colbert"
    ),
    freeze_encoder: Annotated[bool, typer.Option("--freeze-encoder", help="Train the heads alone.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Store float16 instead of float32.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the batches and of new heads.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=2, metavar="N", help="Queries of a batch.", rich_help_panel=_BATCHES)
    ] = 32,
    group_size: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Passages of a query, the right one included.", rich_help_panel=_BATCHES),
    ] = 8,
    query_length: Annotated[
        int, typer.Option(min=4, metavar="N", help="Most tokens of a query.", rich_help_panel=_BATCHES)
    ] = 256,
    passage_length: Annotated[
        int, typer.Option(min=4, metavar="N", help="Most tokens of a passage.", rich_help_panel=_BATCHES)
    ] = 1024,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Optimiser steps; beats --epochs.", rich_help_panel=_OPTIMISER),
    ] = None,
    epochs: Annotated[
        float, typer.Option(min=0.001, metavar="X", help="Passes over the data.", rich_help_panel=_OPTIMISER)
    ] = 1.0,
    learning_rate: Annotated[
        float, typer.Option(metavar="X", help="Highest learning rate.", rich_help_panel=_OPTIMISER)
    ] = 1e-5,
    warmup: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="X", help="Share of the steps in which the rate rises.", rich_help_panel=_OPTIMISER
        ),
    ] = 0.1,
    temperature: Annotated[
        float, typer.Option(metavar="X", help="Every score is divided by it.", rich_help_panel=_LOSS)
    ] = 0.02,
    sum_weights: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="D S C", help="Weights of dense, sparse and ColBERT scores in their sum.", rich_help_panel=_LOSS
        ),
    ] = (1.0, 0.3, 1.0),
    loss_weights: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="D S C", help="Weights of the dense, sparse and ColBERT losses.", rich_help_panel=_LOSS),
    ] = (1.0, 0.1, 1.0),
    self_distill: Annotated[
        bool, typer.Option(help="Let each head learn from the sum of all.", rich_help_panel=_LOSS)
    ] = True,
    self_distill_start: Annotated[
        int, typer.Option(min=0, metavar="N", help="Step from which they do.", rich_help_panel=_LOSS)
    ] = 0,
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
            help="Texts in memory at a time: slower, and any batch fits.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    checkpoint_gradients: Annotated[
        bool,
        typer.Option(
            "--checkpoint-gradients",
            help="Recompute activations instead of keeping them.",
            rich_help_panel=_MEMORY,
        ),
    ] = False,
    bf16: Annotated[
        bool | None,
        typer.Option(
            help="Matrix products in bfloat16. Default: on a GPU, and where the processor has it.",
            show_default=False,
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cpu, cuda; the best there is by default.", rich_help_panel=_MEMORY),
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
    from trivec.training.jsonl import count_steps
    from trivec.training.losses import LossSettings
    from trivec.training.run_folder import CHECKPOINT
    from trivec.training.trainer import TrainingSettings

    try:
        loss = LossSettings(
            heads=tuple(head.strip() for head in heads.split(",")),
            temperature=temperature,
            sum_weights=sum_weights,
            loss_weights=loss_weights,
            self_distill=self_distill,
            self_distill_start=self_distill_start,
        )
        total = steps or count_steps(data, batch_size, epochs)
        settings = TrainingSettings(
            steps=total,
            learning_rate=learning_rate,
            warmup_steps=round(warmup * total),
            loss=loss,
            freeze_encoder=freeze_encoder,
            bf16=bf16,
            checkpoint_gradients=checkpoint_gradients,
            part_size=part_size,
            evaluate_every=evaluate_every,
            save_every=save_every,
        )
        progress = fine_tune(
            model,
            data,
            out,
            settings,
            batches=BatchSettings(batch_size, group_size, query_length, passage_length, seed),
            held_out=held_out,
            device=device,
            half=half,
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
