"""Differentiable scores of every query with every passage of a batch: dense, lexical and MaxSim.

The lexical score never builds a tensor of vocabulary size for each text, and MaxSim takes padding for minus infinity
(multiplying it by zero, as is common, lets a padded token beat a negative similarity). Temperature and loss are the
caller's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Similarities that MaxSim holds at a time, in elements: 32 million in bf16 are 64 MB.
MAXSIM_BLOCK_ELEMENTS = 32_000_000


def dense_scores(queries: Tensor, passages: Tensor) -> Tensor:
    """Inner products.

    Args:
        queries: (queries, dim).
        passages: (passages, dim).

    Returns:
        (queries, passages).
    """
    with torch.autocast(queries.device.type, enabled=False):  # 8 bits of bf16 are too few for a score over 0.02
        return queries @ passages.T


def lexical_scores(
    query_ids: Tensor, query_weights: Tensor, passage_ids: Tensor, passage_weights: Tensor, vocab_size: int
) -> Tensor:
    """Sum over the tokens two texts share of the product of their weights.

    A token that occurs more than once in a text has the largest of its weights, as at inference. Only tokens of the
    queries can match, so both sides are laid out over the distinct tokens of the queries: two matrices of
    (texts x distinct query tokens), instead of (texts x length x vocabulary).

    Args:
        query_ids: (queries, length) int64.
        query_weights: (queries, length) float, >= 0.
        passage_ids: (passages, length) int64.
        passage_weights: (passages, length) float, >= 0.
        vocab_size: Size of the vocabulary.

    Returns:
        (queries, passages).
    """
    present = torch.zeros(vocab_size, dtype=torch.bool, device=query_ids.device)
    present[query_ids.reshape(-1)] = True
    column = torch.cumsum(present, 0) - 1  # (vocabulary): column of each token that is present
    width = int(present.sum())
    queries = _weight_matrix(query_ids, query_weights, present, column, width)
    passages = _weight_matrix(passage_ids, passage_weights, present, column, width)
    return dense_scores(queries, passages)


def _weight_matrix(token_ids: Tensor, weights: Tensor, present: Tensor, column: Tensor, width: int) -> Tensor:
    """(texts, width): the largest weight of each token of each text; the gradient goes to that occurrence alone."""
    texts, _ = token_ids.shape
    kept = present[token_ids] & (weights > 0)  # (texts, length)
    row = torch.arange(texts, device=token_ids.device)[:, None].expand_as(token_ids)[kept]
    slot = row * width + column[token_ids[kept]]  # (occurrences)
    weight = weights[kept]
    order = torch.argsort(weight.detach(), stable=True)
    # The last write to a slot is its largest weight: `winner` holds the number of that occurrence.
    winner = torch.full((texts * width,), -1, dtype=torch.int64, device=token_ids.device)
    winner = winner.scatter_reduce(0, slot[order], torch.arange(len(order), device=token_ids.device), "amax")
    filled = (winner >= 0).nonzero().squeeze(1)
    matrix = torch.zeros(texts * width, dtype=weights.dtype, device=weights.device)
    return matrix.scatter(0, filled, weight[order[winner[filled]]]).view(texts, width)


def maxsim_scores(query_vectors: Tensor, query_mask: Tensor, passage_vectors: Tensor, passage_mask: Tensor) -> Tensor:
    """Each query token's best match among a passage's tokens, averaged over the query's tokens (ColBERT's MaxSim).

    Args:
        query_vectors: (queries, query length, dim).
        query_mask: (queries, query length), 0 for padding.
        passage_vectors: (passages, passage length, dim).
        passage_mask: (passages, passage length), 0 for padding.

    Returns:
        (queries, passages) float32.
    """
    dtype = query_vectors.dtype
    device = query_vectors.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    scores: Tensor = _MaxSim.apply(  # type: ignore[no-untyped-call]
        query_vectors, query_mask, passage_vectors, passage_mask, dtype
    )
    return scores


class _MaxSim(Function):
    """MaxSim in blocks of queries; backward through the positions of the maxima, not through the similarities."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, query_mask: Tensor, passages: Tensor, passage_mask: Tensor, dtype: torch.dtype
    ) -> Tensor:
        (n_queries, query_length, dim), (n_passages, passage_length, _) = queries.shape, passages.shape
        low_queries, low_passages = queries.to(dtype), passages.to(dtype).reshape(-1, dim)
        token_share = query_mask.float() / query_mask.sum(1, keepdim=True)  # (queries, query length)
        padding = torch.zeros(n_passages, passage_length, dtype=dtype, device=queries.device)
        padding.masked_fill_(passage_mask == 0, float("-inf"))
        best = torch.empty(n_queries, query_length, n_passages, dtype=torch.int64, device=queries.device)
        scores = torch.empty(n_queries, n_passages, device=queries.device)
        block = _block_size(query_length, n_passages * passage_length)
        for start in range(0, n_queries, block):
            stop = min(start + block, n_queries)
            similarity = low_queries[start:stop].reshape(-1, dim) @ low_passages.T
            similarity = similarity.view(-1, n_passages, passage_length).add_(padding)
            value, index = similarity.max(-1)  # ((stop - start) * query length, passages)
            value = value.view(stop - start, query_length, n_passages).float()
            scores[start:stop] = torch.einsum("qip,qi->qp", value, token_share[start:stop])
            best[start:stop] = index.view(stop - start, query_length, n_passages)
        ctx.save_for_backward(low_queries, low_passages, token_share, best)
        ctx.shapes = (n_passages, passage_length, queries.dtype)
        return scores

    @staticmethod
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        queries, passages, token_share, best = ctx.saved_tensors
        n_passages, passage_length, dtype = ctx.shapes
        n_queries, query_length, dim = queries.shape
        grad_queries = torch.empty(n_queries * query_length, dim, dtype=dtype, device=queries.device)
        grad_passages = torch.zeros(n_passages * passage_length, dim, dtype=torch.float32, device=queries.device)
        offset = torch.arange(n_passages, device=queries.device) * passage_length
        block = _block_size(query_length, n_passages * passage_length)
        for start in range(0, n_queries, block):
            stop = min(start + block, n_queries)
            rows = (stop - start) * query_length
            # (rows, passages): gradient of each token's best similarity, put where that similarity was
            grad_best = (grad_scores[start:stop, None, :] * token_share[start:stop, :, None]).view(rows, n_passages)
            grad_similarity = torch.zeros(rows, n_passages * passage_length, dtype=queries.dtype, device=queries.device)
            column = best[start:stop].view(rows, n_passages) + offset
            grad_similarity.scatter_(1, column, grad_best.to(queries.dtype))
            grad_queries[start * query_length : stop * query_length] = (grad_similarity @ passages).to(dtype)
            grad_passages += (grad_similarity.T @ queries[start:stop].reshape(rows, dim)).float()
        return (
            grad_queries.view(n_queries, query_length, dim),
            None,
            grad_passages.view(n_passages, passage_length, dim).to(dtype),
            None,
            None,
        )


def _block_size(query_length: int, passage_tokens: int) -> int:
    return max(1, MAXSIM_BLOCK_ELEMENTS // max(1, query_length * passage_tokens))
