"""Differentiable scores of every query with every passage of a batch: dense, lexical and MaxSim.

The lexical score never builds a tensor of vocabulary size for each text, and MaxSim takes padding for minus infinity
(multiplying it by zero, as is common, lets a padded token beat a negative similarity). Temperature and loss are the
caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

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
    """MaxSim in blocks of texts; backward through the positions of the maxima, not through the similarities."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, query_mask: Tensor, passages: Tensor, passage_mask: Tensor, dtype: torch.dtype
    ) -> Tensor:
        low_queries, low_passages = queries.to(dtype), passages.to(dtype)
        token_share = query_mask.float() / query_mask.sum(1, keepdim=True)  # (queries, query length)
        padding = torch.zeros(passage_mask.shape, dtype=dtype, device=queries.device)
        padding.masked_fill_(passage_mask == 0, float("-inf"))
        best = torch.empty(*queries.shape[:2], len(passages), dtype=torch.int32, device=queries.device)
        scores = torch.empty(len(queries), len(passages), device=queries.device)
        for q, p in _blocks(queries, passages):
            similarity = torch.einsum("qid,pjd->qipj", low_queries[q], low_passages[p])
            value, index = similarity.add_(padding[p]).max(-1)  # (queries, query length, passages)
            scores[q, p] = torch.einsum("qip,qi->qp", value.float(), token_share[q])
            best[q, :, p] = index.to(best.dtype)
        ctx.save_for_backward(low_queries, low_passages, token_share, best)
        ctx.dtype = queries.dtype
        return scores

    @staticmethod
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        queries, passages, token_share, best = ctx.saved_tensors
        count, length, dim = passages.shape
        query_rows, passage_rows = queries.float().reshape(-1, dim), passages.float().reshape(-1, dim)
        grad_queries = torch.empty_like(query_rows)
        grad_passages = torch.zeros_like(passage_rows)
        # Only the pairs of tokens that are a maximum have a gradient: one passage token for each query token.
        starts = length * torch.arange(count, device=queries.device)
        block = max(1, MAXSIM_BLOCK_ELEMENTS // (8 * queries.shape[1] * count))
        for first in range(0, len(queries), block):
            q = slice(first, first + block)
            share = (token_share[q, :, None] * grad_scores[q, None, :].float()).flatten()
            chosen = (best[q].long() + starts).flatten()  # rows of `passage_rows`, `count` for each query token
            tokens = slice(first * queries.shape[1], first * queries.shape[1] + len(chosen) // count)
            every_query_token = torch.arange(0, len(chosen), count, device=queries.device)
            grad_queries[tokens] = _weighted_sums(passage_rows, chosen, share, every_query_token)
            by_passage_token = chosen.argsort(stable=True)
            used, times = chosen[by_passage_token].unique_consecutive(return_counts=True)
            asked = by_passage_token // count + tokens.start  # rows of `query_rows`
            sums = _weighted_sums(query_rows, asked, share[by_passage_token], times.cumsum(0) - times)
            grad_passages[used] += sums
        return (
            grad_queries.view(queries.shape).to(ctx.dtype),
            None,
            grad_passages.view(passages.shape).to(ctx.dtype),
            None,
            None,
        )


def _weighted_sums(rows: Tensor, chosen: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """(groups, dim): the weighted sum of each group of chosen rows; a group goes from its start to the next one's."""
    return functional.embedding_bag(chosen, rows, starts, mode="sum", per_sample_weights=weights)


def _blocks(queries: Tensor, passages: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of queries and of passages that hold at most `MAXSIM_BLOCK_ELEMENTS` similarities, or one text each."""
    one_pair = max(1, queries.shape[1] * passages.shape[1])
    passage_block = min(len(passages), max(1, MAXSIM_BLOCK_ELEMENTS // one_pair))
    query_block = max(1, MAXSIM_BLOCK_ELEMENTS // (one_pair * passage_block))
    for start in range(0, len(queries), query_block):
        for other in range(0, len(passages), passage_block):
            yield slice(start, start + query_block), slice(other, other + passage_block)
