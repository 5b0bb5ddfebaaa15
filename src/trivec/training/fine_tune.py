"""From a model and JSONL files to a fine-tuned model folder: the whole of `trivec train` behind its options."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from trivec.checkpoint import open_checkpoint
from trivec.checkpoint.fingerprint import model_fingerprint
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.errors import DeviceError
from trivec.support.extras import require
from trivec.support.part_files import remove_leftovers
from trivec.training.held_out_scores import HeldOut
from trivec.training.inputs import Content, RunInputs, begin_or_resume, settings_record
from trivec.training.m3 import TrainableM3
from trivec.training.plot import plot_run
from trivec.training.result_folder import (
    WEIGHTS,
    check_model_folder,
    load_trainable,
    round_to_half,
    write_model_folder,
)
from trivec.training.run_folder import Progress, RunFolder
from trivec.training.trainer import Trainer, TrainingSettings, is_bf16_fast
from trivec.training.training_data import JsonlBatches, find_files

logger = logging.getLogger(__name__)

RUN_FOLDER = "run"
PICTURE = "losses.svg"


@dataclass(frozen=True)
class BatchSettings:
    """How batches are cut from the data; see `JsonlBatches`."""

    batch_size: int = 32
    group_size: int = 8
    query_length: int = 256
    passage_length: int = 1024
    seed: int = 0


def fine_tune(
    name_or_path: str | Path,
    data: Sequence[Path],
    out: Path,
    settings: TrainingSettings,
    *,
    batches: BatchSettings | None = None,
    held_out: Path | None = None,
    device: str | None = None,
    half: bool = False,
    revision: str | None = None,
    local_files_only: bool = False,
    show_progress: bool = True,
) -> Progress:
    """Fine-tune a model and write the result in BAAI/bge-m3's layout.

    Args:
        name_or_path: The model to start from, a folder or a hub id.
        data: JSONL files and folders of such files, in FlagEmbedding's format.
        out: Folder of the result; logs, loss picture and checkpoints go to its folder `run`. A run that was
            interrupted goes on from there, if model, data and settings are the same.
        settings: How to optimise.
        batches: How batches are cut.
        held_out: A JSONL file to evaluate on; the best weights are kept instead of the last, and the fusion weights
            are chosen on it.
        device: "cpu", "cuda" or "mps"; the best there is if None.
        half: Whether to store float16.
        revision: Branch, tag or commit of a hub model.
        local_files_only: Whether to use a downloaded model only.
        show_progress: Whether to draw a progress bar.

    Returns:
        How far the run came and its best figure.

    Raises:
        CheckpointError: The model cannot be read.
        DataError: The data cannot be read.
        DeviceError: The device cannot be had.
        MissingExtraError: `matplotlib` is not installed.
        NotADirectoryError: `out` is a file.
        TrainingError: The run cannot go on, or `out` holds one with another model, other data or settings.
        ResultError: The written folder does not give the model's vectors.
    """
    require("matplotlib", "train")  # better now than at the end of the run
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file, where a folder for the result is wanted: name another")
    batches = batches or BatchSettings()
    checkpoint = open_checkpoint(name_or_path, revision=revision, local_files_only=local_files_only)
    tokenizer = M3Tokenizer(checkpoint.tokenizer_file)
    limit = checkpoint.config.max_length
    query_length, passage_length = min(batches.query_length, limit), min(batches.passage_length, limit)
    source = JsonlBatches(
        find_files(data),
        tokenizer,
        batch_size=batches.batch_size,
        group_size=batches.group_size,
        query_length=query_length,
        passage_length=passage_length,
        seed=batches.seed,
    )
    target = _device(device)
    if settings.bf16 is None:
        settings = replace(settings, bf16=is_bf16_fast(target))
    examples, evaluate = None, None
    if held_out is not None:
        examples = HeldOut(held_out, tokenizer, query_length=query_length, passage_length=passage_length)

        def evaluate(model: TrainableM3) -> dict[str, float]:
            return examples.figures(model, settings.loss)

    inputs = RunInputs(
        model=Content(str(name_or_path), model_fingerprint(checkpoint)),
        data=tuple(Content(str(file.path), file.sha256) for file in source.files),
        held_out=None if examples is None else Content(str(held_out), examples.sha256),
        settings=settings_record(
            settings, {**asdict(batches), "query_length": query_length, "passage_length": passage_length}
        ),
    )
    run = RunFolder(out / RUN_FOLDER)
    with run.held():
        remove_leftovers(out / WEIGHTS)
        begin_or_resume(run, inputs)
        torch.manual_seed(batches.seed)
        model = load_trainable(checkpoint.folder, settings.loss.heads).to(target)
        progress = Trainer(model, source, settings, run, evaluate=evaluate, show_progress=show_progress).run()
        if half:
            round_to_half(model)
        fusion_weights = checkpoint.config.fusion_weights
        if examples is not None and model.sparse_linear is not None and model.colbert_linear is not None:
            fusion_weights = examples.fusion_weights(model.eval())
        write_model_folder(model, out, checkpoint.folder, half=half, fusion_weights=fusion_weights)
        example = source.files[0].read(0)
        worst = check_model_folder(model, out, [example.query, *example.pos])
        logger.info("%s gives the trained model's vectors (largest difference %.1e)", out, worst)
        plot_run(run.path, run.path / PICTURE)
    return progress


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"PyTorch cannot use the device {name!r}: {str(error).splitlines()[0]}") from error
    return device
