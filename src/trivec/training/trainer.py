"""The training run: steps of AdamW over a source of batches, logged, checked, evaluated, saved and resumed.

It knows a model and numbered batches, neither files of texts nor tokenizers. All that a run needs to go on is in its
`RunFolder`; on a CPU a resumed run gives bit for bit the weights of one that was never stopped.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from trivec.engines.processor import has_bf16
from trivec.support.caller import level_of_the_caller
from trivec.support.progress import ProgressBar, progress_bar
from trivec.training.batches import BatchSource
from trivec.training.gradients import BatchResult, backward
from trivec.training.losses import LossSettings
from trivec.training.m3 import TrainableM3
from trivec.training.run_folder import Progress, RunFolder, TrainingError

logger = logging.getLogger(__name__)

# Lexical weights have collapsed when, for so many steps, (almost) none is above zero, or all are and all alike.
COLLAPSE_STEPS = 25
COLLAPSE_SHARE = 0.001
COLLAPSE_SPREAD = 0.01

Evaluate = Callable[[TrainableM3], dict[str, float]]


@dataclass(frozen=True)
class TrainingSettings:
    """How to optimise.

    Attributes:
        steps: Number of optimiser steps.
        learning_rate: Highest learning rate; it rises over `warmup_steps` and falls to 0 at the last step.
        embedding_learning_rate: That of the word embeddings, None for the same.
        weight_decay: AdamW's, on matrices only.
        warmup_steps: Steps of the rise.
        max_gradient_norm: Longer gradients are scaled down to this length.
        loss: The loss, for batches that bring none.
        freeze_encoder: Train the heads alone.
        bf16: Matrix products in bfloat16 (weights and optimiser stay in float32). None decides by the device, as
            `is_bf16_fast` says.
        checkpoint_gradients: Recompute activations layer by layer.
        part_size: Texts to hold activations of at a time, None for the whole batch.
        pad_multiple: Lengths are rounded up to a multiple of this.
        evaluate_every: Steps between evaluations.
        save_every: Steps between checkpoints.
        time_limit: Seconds after which the run ends: the learning rate then follows the larger of the shares of
            steps and of time. Such a run cannot be repeated bit for bit.
    """

    steps: int
    learning_rate: float = 1e-5
    embedding_learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup_steps: int = 0
    max_gradient_norm: float = 1.0
    loss: LossSettings = field(default_factory=LossSettings)
    freeze_encoder: bool = False
    bf16: bool | None = None
    checkpoint_gradients: bool = False
    part_size: int | None = None
    pad_multiple: int = 8
    evaluate_every: int = 500
    save_every: int = 500
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "save_every", "pad_multiple"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.part_size is not None and self.part_size < 1:
            raise ValueError(f"part_size must be at least 1, not {self.part_size}")
        above_zero = {
            "learning rate": self.learning_rate,
            "embedding learning rate": self.embedding_learning_rate,
            "longest gradient norm": self.max_gradient_norm,
            "time limit": self.time_limit,
        }
        for what, value in above_zero.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"the {what} must be a number above 0, not {value}")
        if not 0 <= self.weight_decay < math.inf or self.warmup_steps < 0:
            raise ValueError(
                f"weight decay and warm-up steps must be at least 0, not {self.weight_decay} and {self.warmup_steps}"
            )


class Trainer:
    """Trains a model.

    Args:
        model: The model, on the device to train on.
        source: Its batches.
        settings: How to optimise.
        folder: Where log, checkpoints and the best weights go. A checkpoint in it is resumed from.
        evaluate: Figures of the model on held-out data; the first of them is the one that decides which weights
            are best. None keeps the last weights.
        show_progress: Whether to draw a progress bar.
    """

    def __init__(
        self,
        model: TrainableM3,
        source: BatchSource,
        settings: TrainingSettings,
        folder: RunFolder,
        *,
        evaluate: Evaluate | None = None,
        show_progress: bool = True,
    ) -> None:
        self.model = model
        self.source = source
        self.settings = settings
        self.folder = folder
        self.evaluate = evaluate
        self.show_progress = show_progress
        device = model.encoder.embeddings.word_embeddings.weight.device
        self.bf16 = is_bf16_fast(device) if settings.bf16 is None else settings.bf16
        if self.bf16 and not is_bf16_fast(device):
            warnings.warn(
                "this processor has no instructions for bfloat16, so training in it takes several times as long as "
                "in float32",
                stacklevel=level_of_the_caller(),
            )
        model.encoder.checkpoint_gradients = settings.checkpoint_gradients
        model.encoder.requires_grad_(not settings.freeze_encoder)
        for head, linear in (("sparse", model.sparse_linear), ("colbert", model.colbert_linear)):
            if linear is not None:
                linear.requires_grad_(head in settings.loss.heads)
        if settings.freeze_encoder and set(settings.loss.heads) == {"dense"}:
            raise ValueError("nothing to train: the encoder is frozen and the dense head has no weights of its own")
        self.optimizer = _optimizer(model, settings)
        self.progress = Progress()
        self.bad_steps = 0

    def run(self) -> Progress:
        """Train to the last step, from the folder's checkpoint if there is one.

        Returns:
            How far the run came and its best figure; the model holds the best weights.

        Raises:
            TrainingError: The loss is not a number, or the lexical weights have collapsed.
        """
        # AdamW's moments of tokens that do not occur fade into denormal numbers, which a CPU adds 20 times as slowly.
        torch.set_flush_denormal(True)
        self.progress = self.folder.resume(self.model, self.optimizer) or Progress()
        self.model.train()
        started = time.monotonic() - self.progress.seconds
        with progress_bar(self.settings.steps, "Training", "steps", self.show_progress, done=self.progress.step) as bar:
            while self._share_done(started) < 1:
                self._step(started, bar)
                ended = self._share_done(started) >= 1
                if self.evaluate is not None and (ended or self.progress.step % self.settings.evaluate_every == 0):
                    self._evaluate(self.evaluate)
                if ended or self.progress.step % self.settings.save_every == 0:
                    self.folder.save(self.model, self.optimizer, self.progress)
        if self.evaluate is not None:
            self.folder.load_best(self.model)
        return self.progress

    def _share_done(self, started: float) -> float:
        share = self.progress.step / self.settings.steps
        if self.settings.time_limit is not None:
            share = max(share, (time.monotonic() - started) / self.settings.time_limit)
        return share

    def _step(self, started: float, bar: ProgressBar) -> None:
        step = self.progress.step
        rate = _schedule(step, self._share_done(started), self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest_rate"] * rate
        begun = time.monotonic()
        batch = self.source.batch(step)
        result = backward(
            self.model,
            batch,
            batch.loss or self.settings.loss,
            step=step,
            bf16=self.bf16,
            part_size=self.settings.part_size,
            pad_multiple=self.settings.pad_multiple,
        )
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(parameters, self.settings.max_gradient_norm))
        self._check(result, norm, batch.source)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        now = time.monotonic()
        self.progress = self.progress.advanced(seconds=now - started, tokens=batch.tokens)
        row: dict[str, str | float] = {
            "step": self.progress.step,
            "source": batch.source,
            "loss": result.loss,
            **{f"loss_{name}": value for name, value in result.parts.items()},
            "learning_rate": self.settings.learning_rate * rate,
            "gradient_norm": norm,
            "tokens": batch.tokens,
            "tokens_per_second": batch.tokens / (now - begun),
            "seconds": now - started,
        }
        if result.nonzero_share is not None:
            row["nonzero_weights"] = result.nonzero_share
        self.folder.log(row)
        bar.update()
        shown = {name: f"{value:.3f}" for name, value in result.parts.items()}
        if result.nonzero_share is not None:
            shown["weights>0"] = f"{result.nonzero_share:.0%}"
        bar.set_postfix(loss=f"{result.loss:.3f}", **shown, tok_s=f"{row['tokens_per_second']:.0f}", refresh=False)

    def _check(self, result: BatchResult, norm: float, source: str) -> None:
        if not (math.isfinite(result.loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {self.progress.step} ({source}): loss {result.loss}, gradient norm {norm}. "
                "Lower the learning rate, or train without bf16."
            )
        share, spread = result.nonzero_share, result.weight_spread
        if share is None or spread is None:
            return
        empty = share <= COLLAPSE_SHARE
        flat = share >= 1 - COLLAPSE_SHARE and spread < COLLAPSE_SPREAD
        self.bad_steps = self.bad_steps + 1 if empty or flat else 0
        if self.bad_steps >= COLLAPSE_STEPS:
            what = "no token has any" if empty else "all tokens have the same"
            raise TrainingError(
                f"the lexical weights have collapsed: for {COLLAPSE_STEPS} steps {what} ({share:.1%} above zero at "
                f"step {self.progress.step}). Lower the learning rate or the lexical loss weight, or train without "
                "the sparse head."
            )

    def _evaluate(self, evaluate: Evaluate) -> None:
        self.model.eval()
        with torch.no_grad():
            figures = evaluate(self.model)
        self.model.train()
        name, value = next(iter(figures.items()))
        self.folder.log_evaluation({"step": self.progress.step, "seconds": self.progress.seconds, **figures})
        logger.info("step %d: %s", self.progress.step, ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        if self.progress.best_value is None or value > self.progress.best_value:
            self.progress = self.progress.with_best(name, value)
            self.folder.save_best(self.model)


def is_bf16_fast(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: GPUs do, and processors that have instructions for it.

    Others emulate it: on a processor with AVX2 only the same run took 12 times as long.
    """
    return device.type != "cpu" or has_bf16()


def _optimizer(model: TrainableM3, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW with word embeddings, other matrices, and vectors (not decayed) in groups of their own."""
    embeddings = model.encoder.embeddings.word_embeddings.weight
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        ([p for p in trained if p is embeddings], settings.embedding_learning_rate, 0.0),
        ([p for p in trained if p is not embeddings and p.dim() > 1], None, settings.weight_decay),
        ([p for p in trained if p.dim() == 1], None, 0.0),
    ]
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": decay,
                "lr": settings.learning_rate if rate is None else rate,
                "highest_rate": settings.learning_rate if rate is None else rate,
            }
            for parameters, rate, decay in groups
            if parameters
        ],
        fused=True,
    )


def _schedule(step: int, share_done: float, settings: TrainingSettings) -> float:
    """Share of the highest learning rate: a linear rise, then a linear fall to 0."""
    rise = (step + 1) / settings.warmup_steps if step < settings.warmup_steps else 1.0
    return min(rise, 1 - share_done)
