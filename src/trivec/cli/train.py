"""`trivec train`: fine-tune a model from JSONL files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[
        list[Path], typer.Argument(help="JSONL files, or folders of them: query, pos, neg, pos_scores, neg_scores.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="The model to start from: a name, a folder or a hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the result; a run interrupted there goes on.")],
    held_out: Annotated[
        Path | None, typer.Option(help="JSONL file to evaluate on; the best weights are kept instead of the last.")
    ] = None,
    heads: Annotated[str, typer.Option(help="Heads to train, separated by commas.")] = "dense,sparse,colbert",
    freeze_encoder: Annotated[bool, typer.Option("--freeze-encoder", help="Train the heads alone.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; beats --epochs.")] = None,
    epochs: Annotated[float, typer.Option(min=0.001, help="Passes over the data.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=2, help="Queries of a batch.")] = 32,
    group_size: Annotated[int, typer.Option(min=1, help="Passages of a query, the right one included.")] = 8,
    query_length: Annotated[int, typer.Option(min=4, help="Most tokens of a query.")] = 256,
    passage_length: Annotated[int, typer.Option(min=4, help="Most tokens of a passage.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-5,
    warmup: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps in which the rate rises.")] = 0.1,
    temperature: Annotated[float, typer.Option(help="Every score is divided by it.")] = 0.02,
    sum_weights: Annotated[
        tuple[float, float, float], typer.Option(help="Dense, sparse and ColBERT scores in their sum.")
    ] = (1.0, 0.3, 1.0),
    loss_weights: Annotated[
        tuple[float, float, float], typer.Option(help="Weights of the dense, sparse and ColBERT losses.")
    ] = (1.0, 0.1, 1.0),
    self_distill: Annotated[bool, typer.Option(help="Let each head learn from the sum of all.")] = True,
    self_distill_start: Annotated[int, typer.Option(min=0, help="Step from which they do.")] = 0,
    part_size: Annotated[
        int | None, typer.Option(min=1, help="Texts in memory at a time: slower, and any batch fits.")
    ] = None,
    checkpoint_gradients: Annotated[
        bool, typer.Option("--checkpoint-gradients", help="Recompute activations instead of keeping them.")
    ] = False,
    bf16: Annotated[bool, typer.Option(help="Matrix products in bfloat16.")] = True,
    half: Annotated[bool, typer.Option("--half", help="Store float16 instead of float32.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; the best there is by default.")] = None,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Steps between evaluations.")] = 500,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the batches and of new heads.")] = 0,
) -> None:
    """Fine-tune a model's dense, sparse and ColBERT heads together.

    The result is a folder in BAAI/bge-m3's layout, with logs and a picture of the losses in its folder `run`.
    """
    # torch takes seconds to import: not before somebody trains.
    from trivec.training.fine_tune import RUN_FOLDER, BatchSettings, fine_tune
    from trivec.training.jsonl import count_steps
    from trivec.training.losses import LossSettings
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
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{out}: {progress.step} steps, {progress.tokens:,} tokens in {progress.seconds:.0f} s; the folder was")
    typer.echo("loaded again and gives the trained model's vectors.")
    if progress.best_value is not None:
        typer.echo(f"best {progress.best_name}: {progress.best_value:.4f} at step {progress.best_step}")
    typer.echo(f"log and picture: {out / RUN_FOLDER}")
