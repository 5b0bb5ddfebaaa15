"""The folder of a training run: CSV logs, the checkpoint to resume from, and the best weights so far.

Every file but the logs is written beside its place and moved there, so that a run killed at any moment leaves a whole
checkpoint. It knows tensors and numbers, not what they mean.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from trivec.checkpoint.safetensors_file import read_safetensors
from trivec.errors import TrivecError
from trivec.support.caller import level_of_the_caller
from trivec.support.part_files import remove_leftovers, replacing
from trivec.training.weights import load_weights, save_weights

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
LOG = "log.csv"
EVALUATION_LOG = "evaluation.csv"


class TrainingError(TrivecError):
    """A run cannot go on: its folder is another run's, the loss is not a number, or the lexical weights collapsed."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Steps done.
        tokens: Tokens trained on, padding left out.
        seconds: Time spent, that before a resume included.
        best_step: Step of the best evaluation, None before the first.
        best_name: Name of the figure that decides.
        best_value: Its best value.
        resumed_step: Step of the checkpoint that this call went on from, 0 if it began anew.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_name: str | None = None
    best_value: float | None = None
    resumed_step: int = 0

    def advanced(self, *, seconds: float, tokens: int) -> Progress:
        """One step further."""
        return replace(self, step=self.step + 1, seconds=seconds, tokens=self.tokens + tokens)

    def with_best(self, name: str, value: float) -> Progress:
        """With a new best evaluation at the present step."""
        return replace(self, best_step=self.step, best_name=name, best_value=value)


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        path: The folder; it is created. What a killed run had begun to write in it is removed: 6.8 GB of a checkpoint
            at full size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for name in (CHECKPOINT, BEST):
            remove_leftovers(path / name)

    def log(self, row: dict[str, str | float]) -> None:
        """Add a line to the step log."""
        _append(self.path / LOG, row)

    def log_evaluation(self, row: dict[str, float]) -> None:
        """Add a line to the log of evaluations."""
        _append(self.path / EVALUATION_LOG, dict(row))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training into the folder for as long as the block lasts, or this process lives.

        Where the file system has no locks, a warning says that nothing is kept out.

        Raises:
            TrainingError: Another process is training into it.
            OSError: The lock's file cannot be made.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise TrainingError(
                f"another process is training into {self.path}: wait for it, or choose another folder for the result"
            ) from None
        except NotImplementedError:  # newer releases of filelock make do with a file there, and warn themselves
            warnings.warn(
                f"the file system of {self.path} has no locks: see to it that no other process trains into it",
                stacklevel=level_of_the_caller(),
            )
        try:
            yield
        finally:
            lock.release()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.path / CHECKPOINT).exists()

    def write_text(self, name: str, text: str) -> None:
        """Write a small file of the run."""
        with replacing(self.path / name) as part:
            part.write_text(text, encoding="utf-8")

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write the checkpoint that `resume` reads."""
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": asdict(progress)}
        with replacing(self.path / CHECKPOINT) as part:
            torch.save(state, part)

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
        """Load the checkpoint into model and optimiser, and cut the logs to its step.

        Returns:
            How far the run was; None where there is no checkpoint (logs of an earlier try are removed).
        """
        file = self.path / CHECKPOINT
        if not file.exists():
            for name in (LOG, EVALUATION_LOG):
                (self.path / name).unlink(missing_ok=True)
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
        progress = replace(progress, resumed_step=progress.step)
        for name in (LOG, EVALUATION_LOG):
            _cut(self.path / name, progress.step)
        return progress

    def save_best(self, model: nn.Module) -> None:
        """Write the model's weights as the best so far."""
        save_weights(model, self.path / BEST)

    def load_best(self, model: nn.Module) -> None:
        """Load the best weights into the model."""
        load_weights(model, read_safetensors(self.path / BEST))


def _append(file: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV file; a column seen for the first time is added to the header of the whole file."""
    columns: list[str] = []
    if file.exists():
        with file.open(newline="", encoding="utf-8") as lines:
            columns = next(csv.reader(lines), [])
    new = [name for name in row if name not in columns]
    if new and columns:
        rows = _rows(file)
        _write(file, columns + new, rows)
    columns += new
    with file.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, columns)
        if lines.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _write(file: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, columns)
        writer.writeheader()
        writer.writerows(rows)


def _cut(file: Path, last_step: int) -> None:
    """Drop the rows behind a step: the resumed run writes them again."""
    if file.exists():
        rows = _rows(file)
        kept = [row for row in rows if int(row["step"]) <= last_step]
        if len(kept) < len(rows):
            _write(file, list(rows[0]), kept)
