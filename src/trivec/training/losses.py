"""What is optimised: the unified loss of the M3 paper (arXiv 2402.03216, section 3.3) with FlagEmbedding's weights.

InfoNCE over the dense, lexical and multi-vector scores and over their weighted sum; then, from a chosen step on, each
of the three also learns from that sum (self-knowledge distillation). It knows representations and scores, no encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trivec.training.m3 import Representations
from trivec.training.scores import dense_scores, lexical_scores, maxsim_scores

HEADS = ("dense", "sparse", "colbert")


@dataclass(frozen=True)
class LossSettings:
    """Weights of the unified loss; the defaults are those of FlagEmbedding 1.4.2.

    Attributes:
        heads: Which of dense, sparse and colbert are trained.
        temperature: Every score is divided by it.
        sum_weights: Weights of the heads' scores in their sum.
        loss_weights: Weights of the heads' losses; the sum's own loss has weight 1.
        self_distill: Whether the heads also learn from the sum.
        self_distill_start: First step (counted from 0) at which they do.
    """

    heads: tuple[str, ...] = HEADS
    temperature: float = 0.02
    sum_weights: tuple[float, float, float] = (1.0, 0.3, 1.0)
    loss_weights: tuple[float, float, float] = (1.0, 0.1, 1.0)
    self_distill: bool = True
    self_distill_start: int = 0

    def __post_init__(self) -> None:
        unknown = [head for head in self.heads if head not in HEADS]
        if unknown or not self.heads or len(set(self.heads)) != len(self.heads):
            raise ValueError(f"heads must be distinct names out of {', '.join(HEADS)}, not {', '.join(self.heads)!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        for what, weights in (("sum", self.sum_weights), ("loss", self.loss_weights)):
            if len(weights) != len(HEADS) or not all(0 <= weight < math.inf for weight in weights):
                raise ValueError(f"{what} weights must be three numbers of at least 0, not {weights}")


@dataclass(frozen=True)
class UnifiedLoss:
    """The loss to take gradients of, and each head's InfoNCE (and the sum's, under "sum") to watch."""

    total: Tensor
    parts: dict[str, float]


def head_scores(
    queries: Representations, passages: Representations, settings: LossSettings, vocab_size: int
) -> dict[str, Tensor]:
    """The scores of every query with every passage by each trained head, divided by the temperature.

    Args:
        queries: Representations of the queries.
        passages: Representations of the passages.
        settings: Heads and temperature.
        vocab_size: Size of the vocabulary.

    Returns:
        Head to (queries, passages).
    """
    scores = {}
    if "dense" in settings.heads:
        scores["dense"] = dense_scores(queries.dense, passages.dense)
    if "sparse" in settings.heads:
        scores["sparse"] = lexical_scores(
            queries.token_ids, _present(queries.weights), passages.token_ids, _present(passages.weights), vocab_size
        )
    if "colbert" in settings.heads:
        scores["colbert"] = maxsim_scores(
            _present(queries.vectors), queries.mask[:, 1:], _present(passages.vectors), passages.mask[:, 1:]
        )
    return {head: score.float() / settings.temperature for head, score in scores.items()}


def unified_loss(
    queries: Representations,
    passages: Representations,
    settings: LossSettings,
    vocab_size: int,
    *,
    step: int = 0,
    teacher_scores: Tensor | None = None,
) -> UnifiedLoss:
    """The unified loss of one batch.

    Args:
        queries: Representations of the queries.
        passages: Representations of the passages: the same number for each query, in the queries' order, the
            positive first. Every other passage of the batch is a negative.
        settings: Weights, heads, temperature.
        vocab_size: Size of the vocabulary.
        step: Number of optimiser steps done, for the start of the self-distillation.
        teacher_scores: (queries, passages for each query) scores of a teacher, or None. Each loss then also
            has the cross entropy of the scores within a query's own passages to the teacher's softmax.

    Returns:
        The loss and its parts.

    Raises:
        ValueError: The passages cannot be shared out evenly among the queries.
    """
    if len(passages) % len(queries):
        raise ValueError(f"{len(passages)} passages cannot be shared out evenly among {len(queries)} queries")
    scores = head_scores(queries, passages, settings, vocab_size)
    group = len(passages) // len(queries)
    contrast = {head: _contrastive(score, group, teacher_scores) for head, score in scores.items()}
    weights = dict(zip(HEADS, settings.loss_weights, strict=True))
    if len(scores) == 1:
        (only,) = scores
        return UnifiedLoss(contrast[only], {only: contrast[only].item()})

    sum_weights = dict(zip(HEADS, settings.sum_weights, strict=True))
    summed = torch.stack([sum_weights[head] * score for head, score in scores.items()]).sum(0)
    contrast["sum"] = _contrastive(summed, group, teacher_scores)
    total = contrast["sum"]
    for head in scores:
        total = total + weights[head] * contrast[head]
    total = total / len(contrast)
    if settings.self_distill and step >= settings.self_distill_start:
        teacher = summed.detach().softmax(-1)
        distilled = [weights[head] * _cross_entropy_to(teacher, score) for head, score in scores.items()]
        total = (total + torch.stack(distilled).sum() / len(distilled)) / 2
    return UnifiedLoss(total, {name: part.item() for name, part in contrast.items()})


def _contrastive(scores: Tensor, group: int, teacher_scores: Tensor | None) -> Tensor:
    """InfoNCE over all passages of the batch, plus the distillation of a teacher over each query's own passages."""
    positive = torch.arange(len(scores), device=scores.device) * group
    loss = functional.cross_entropy(scores, positive)
    if teacher_scores is not None:
        own = scores.gather(1, positive[:, None] + torch.arange(group, device=scores.device))
        loss = loss + _cross_entropy_to(teacher_scores.softmax(-1), own)
    return loss


def _cross_entropy_to(teacher: Tensor, scores: Tensor) -> Tensor:
    return -(teacher * scores.log_softmax(-1)).sum(-1).mean()


def _present(part: Tensor | None) -> Tensor:
    if part is None:
        raise ValueError("a head is to be trained that the model does not have: create it with that head")
    return part
