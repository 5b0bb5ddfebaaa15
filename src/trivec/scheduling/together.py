"""Joins the texts of several requests to compute them together, and parts the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from trivec.checkpoint.tokenizer import TokenizedTexts
from trivec.engines import EncodedBatch, Heads
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.sparse import row_slice


def join_texts(windows: Sequence[TokenizedTexts]) -> TokenizedTexts:
    """Lay texts end to end."""
    starts = accumulate((len(window.token_ids) for window in windows), initial=0)
    return TokenizedTexts(
        [ids for window in windows for ids in window.token_ids],
        frozenset(start + i for start, window in zip(starts, windows, strict=False) for i in window.cut),
    )


def part_of_texts(tokenized: TokenizedTexts, start: int, end: int) -> TokenizedTexts:
    """Return texts `start` to `end`."""
    cut = frozenset(i - start for i in tokenized.cut if start <= i < end)
    return TokenizedTexts(tokenized.token_ids[start:end], cut)


def part_of_vectors(
    vectors: M3Embeddings | EncodedBatch, start: int, end: int, heads: Heads, cut: frozenset[int]
) -> M3Embeddings:
    """Return what was asked for of texts `start` to `end`, copied so that it does not keep all in memory.

    `cut` says which of these texts, counted from `start`, were cut.
    """
    dense, sparse, colbert_vecs = vectors.dense, vectors.sparse, vectors.colbert_vecs
    return M3Embeddings(
        dense=dense[start:end].copy() if dense is not None and heads.dense else None,
        sparse=row_slice(sparse, start, end).copy() if sparse is not None and heads.sparse else None,
        colbert_vecs=None if colbert_vecs is None else colbert_vecs[start:end],
        cut=cut,
    )
