"""The gradients of one batch: at once, or in parts whose memory is that of the largest part.

In parts, every text is first represented without gradients, the loss gives the gradient of each representation, and
each part is then represented again and differentiated with its share (cached gradients, arXiv 2101.06983): the
result is the whole batch's gradient, in-batch negatives included, for about a third more time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trivec.training.batches import TokenBatch
from trivec.training.losses import LossSettings, UnifiedLoss, unified_loss
from trivec.training.m3 import Representations, TrainableM3, pad_token_ids


@dataclass(frozen=True)
class BatchResult:
    """What a step reports.

    Attributes:
        loss: The loss.
        parts: InfoNCE of each head and of their sum.
        nonzero_share: Share of the tokens with a lexical weight above zero, None without sparse training.
        weight_spread: Standard deviation over mean of the non-zero lexical weights, None without.
    """

    loss: float
    parts: dict[str, float]
    nonzero_share: float | None
    weight_spread: float | None


def backward(
    model: TrainableM3,
    batch: TokenBatch,
    settings: LossSettings,
    *,
    step: int = 0,
    bf16: bool = False,
    part_size: int | None = None,
    pad_multiple: int = 8,
) -> BatchResult:
    """Add a batch's gradients to the model's parameters.

    Args:
        model: The model; its parameters say on which device.
        batch: The batch.
        settings: The loss.
        step: Number of optimiser steps done.
        bf16: Whether matrix products run in bfloat16.
        part_size: Texts to hold activations of at a time; None for all.
        pad_multiple: Lengths are rounded up to a multiple of this.

    Returns:
        Loss and figures of the batch.
    """
    device = model.encoder.embeddings.word_embeddings.weight.device
    padded = [
        pad_token_ids(texts, model.config.pad_token_id, multiple=pad_multiple, device=device)
        for texts in (batch.queries, batch.passages)
    ]
    teacher = None if batch.teacher_scores is None else torch.tensor(batch.teacher_scores, device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)

    def loss_of(queries: Representations, passages: Representations) -> UnifiedLoss:
        return unified_loss(queries, passages, settings, model.config.vocab_size, step=step, teacher_scores=teacher)

    if part_size is None:
        with autocast:
            queries, passages = (model(token_ids, mask) for token_ids, mask in padded)
            loss = loss_of(queries, passages)
        loss.total.backward()  # type: ignore[no-untyped-call]
    else:
        with autocast, torch.no_grad():
            queries, passages = (_in_parts(model, token_ids, mask, part_size) for token_ids, mask in padded)
        leaves = [_leaves(queries), _leaves(passages)]
        with autocast:
            loss = loss_of(*leaves)
        loss.total.backward()  # type: ignore[no-untyped-call]
        for (token_ids, mask), cached in zip(padded, leaves, strict=True):
            for rows in _part_rows(len(token_ids), part_size):
                _backward_part(model, token_ids[rows], mask[rows], cached, rows, autocast)
    share, spread = _lexical_figures(model, queries, passages) if "sparse" in settings.heads else (None, None)
    return BatchResult(loss.total.item(), loss.parts, share, spread)


def _part_rows(texts: int, part_size: int) -> list[slice]:
    return [slice(start, min(start + part_size, texts)) for start in range(0, texts, part_size)]


def _trimmed(token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the padding that no text of this part needs."""
    length = max(2, int(mask.sum(1).max()))
    return token_ids[:, :length], mask[:, :length]


def _in_parts(model: TrainableM3, token_ids: Tensor, mask: Tensor, part_size: int) -> Representations:
    length = token_ids.shape[1]
    parts = [model(*_trimmed(token_ids[rows], mask[rows])) for rows in _part_rows(len(token_ids), part_size)]
    weights = vectors = None
    if parts[0].weights is not None:
        weights = torch.cat([functional.pad(part.weights, (0, length - part.weights.shape[1])) for part in parts])
    if parts[0].vectors is not None:
        vectors = torch.cat(
            [functional.pad(part.vectors, (0, 0, 0, length - 1 - part.vectors.shape[1])) for part in parts]
        )
    return Representations(token_ids, mask, torch.cat([part.dense for part in parts]), weights, vectors)


def _leaves(whole: Representations) -> Representations:
    def leaf(part: Tensor | None) -> Tensor | None:
        return None if part is None else part.detach().requires_grad_()

    return Representations(
        whole.token_ids, whole.mask, whole.dense.detach().requires_grad_(), leaf(whole.weights), leaf(whole.vectors)
    )


def _backward_part(
    model: TrainableM3,
    token_ids: Tensor,
    mask: Tensor,
    cached: Representations,
    rows: slice,
    autocast: torch.autocast,
) -> None:
    """Represent a part again and push the cached gradients of its representations through it."""
    with autocast:
        part = model(*_trimmed(token_ids, mask))
    outputs, gradients = [], []
    for output, leaf in ((part.dense, cached.dense), (part.weights, cached.weights), (part.vectors, cached.vectors)):
        if output is not None and leaf is not None and leaf.grad is not None and output.requires_grad:
            gradient = leaf.grad[rows]
            outputs.append(output)
            gradients.append(
                gradient if gradient.dim() == 1 or output is part.dense else gradient[:, : output.shape[1]]
            )
    torch.autograd.backward(outputs, gradients)


def _lexical_figures(model: TrainableM3, queries: Representations, passages: Representations) -> tuple[float, float]:
    """Share of the tokens whose lexical weight is not zero, and the relative spread of those weights."""
    weights = [
        side.weights.detach()[(side.mask == 1) & model.can_have_weight(side.token_ids)]
        for side in (queries, passages)
        if side.weights is not None
    ]
    together = torch.cat(weights)
    nonzero = together[together > 0]
    if len(nonzero) < 2:
        return 0.0, 0.0
    return len(nonzero) / len(together), float(nonzero.std() / nonzero.mean())
