"""How well one text matches another, by each of the three vectors and by their weighted means. Knows only vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.support.arguments import checked_weights
from trivec.vectors.embeddings import M3Embedding
from trivec.vectors.sparse import SparseMatrix

FloatArray = npt.NDArray[np.float32]


def dense_score(query: FloatArray, document: FloatArray) -> float:
    """Inner product of two dense vectors, each (dim,): the cosine, as the vectors have length 1.

    Example:
        >>> dense_score(np.float32([0.6, 0.8]), np.float32([1, 0]))
        0.6000000238418579
    """
    return float(query @ document)


def lexical_score(query: SparseMatrix, document: SparseMatrix) -> float:
    """Inner product of two sparse vectors, each 1 x vocabulary: the sum over shared tokens of the weights' products.

    Raises:
        ValueError: One of them has not exactly one row.
    """
    for matrix in (query, document):
        if matrix.shape[0] != 1:
            raise ValueError(f"lexical_score compares one row with one row, got {matrix.shape[0]} rows: take matrix[i]")
    _, in_query, in_document = np.intersect1d(query.indices, document.indices, assume_unique=True, return_indices=True)
    return float(query.data[in_query] @ document.data[in_document])


def colbert_score(query: FloatArray, document: FloatArray) -> float:
    """MaxSim of token vectors, divided by the number of query tokens.

    For each query token the largest inner product with any document token, averaged over the query's tokens (ColBERT's
    late interaction, arXiv 2004.12832, with BGE-M3's division, arXiv 2402.03216, section 3.2).

    Args:
        query: (query tokens, dim).
        document: (document tokens, dim).
    """
    return float((query @ document.T).max(axis=1).mean())


@dataclass(frozen=True)
class PairScores:
    """The three scores of some (query, document) pairs, lists of one length."""

    dense: list[float]
    sparse: list[float]
    colbert: list[float]


def pair_scores(queries: Sequence[M3Embedding], documents: Sequence[M3Embedding]) -> PairScores:
    """Score pair i = (queries[i], documents[i]).

    Args:
        queries: Embeddings with all three vectors.
        documents: As many.

    Raises:
        ValueError: Vectors are missing.
    """
    dense, sparse, colbert = [], [], []
    for query, document in zip(queries, documents, strict=True):
        if query.dense is None or document.dense is None or query.sparse is None or document.sparse is None:
            raise ValueError("combined scores need dense and sparse vectors of both texts")
        if query.colbert_vecs is None or document.colbert_vecs is None:
            raise ValueError("combined scores need token vectors of both texts")
        dense.append(dense_score(query.dense, document.dense))
        sparse.append(lexical_score(query.sparse, document.sparse))
        colbert.append(colbert_score(query.colbert_vecs, document.colbert_vecs))
    return PairScores(dense, sparse, colbert)


def combined_scores(
    queries: Sequence[M3Embedding], documents: Sequence[M3Embedding], weights: Sequence[float]
) -> dict[str, list[float]]:
    """Score pair i = (queries[i], documents[i]) in FlagEmbedding's five modes; see `pair_scores` and `in_five_modes`.

    Raises:
        ValueError: Not three weights, one is negative or no number, or all are 0; or vectors are missing.
    """
    of_three = checked_weights(weights)
    return in_five_modes(pair_scores(queries, documents), of_three)


def in_five_modes(of_pairs: PairScores, weights: Sequence[float]) -> dict[str, list[float]]:
    """Return FlagEmbedding's five modes of the scores of some pairs.

    Args:
        of_pairs: The scores.
        weights: Of dense, sparse and token-vector score in the two weighted means, as `checked_weights` gives them.

    Returns:
        "colbert", "sparse", "dense", "sparse+dense" and "colbert+sparse+dense", each a list of one score a pair; NaN
        for a mean whose weights are all 0.
    """
    scores = [np.array(one, dtype=np.float64) for one in (of_pairs.dense, of_pairs.sparse, of_pairs.colbert)]
    return {
        "colbert": of_pairs.colbert,
        "sparse": of_pairs.sparse,
        "dense": of_pairs.dense,
        "sparse+dense": weighted_mean(scores[:2], weights[:2]).tolist(),
        "colbert+sparse+dense": weighted_mean(scores, weights).tolist(),
    }


def weighted_mean(scores: Sequence[npt.NDArray[Any] | None], weights: Sequence[float]) -> npt.NDArray[Any]:
    """Weighted mean of several scores of the same pairs (M3 paper, arXiv 2402.03216, section 3.2).

    Args:
        scores: Arrays of one shape; one of weight 0 may be None.
        weights: As many, checked.

    Returns:
        An array of that shape and kind; NaN where all weights are 0.

    Raises:
        ValueError: Scores with a weight above 0 are missing.
    """
    if any(score is None for score, weight in zip(scores, weights, strict=True) if weight > 0):
        raise ValueError("scores with a weight above 0 are missing")
    there = [(score, weight) for score, weight in zip(scores, weights, strict=True) if score is not None]
    total = sum(weights)
    mean: npt.NDArray[Any] = np.sum([score * weight for score, weight in there], axis=0)
    return mean / total if total else np.full_like(mean, math.nan)
