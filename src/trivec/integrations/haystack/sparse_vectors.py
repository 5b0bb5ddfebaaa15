"""Sparse vectors in Haystack's form."""

from __future__ import annotations

from haystack.dataclasses import SparseEmbedding


def sparse_embedding(weights: dict[int, float]) -> SparseEmbedding:
    """Return lexical weights by token id as Haystack has them."""
    return SparseEmbedding(indices=list(weights), values=list(weights.values()))
