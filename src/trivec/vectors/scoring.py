"""How well one text matches another, by each of the three vectors and by their weighted means. Knows only vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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


def combined_scores(
    queries: Sequence[M3Embedding], documents: Sequence[M3Embedding], weights: Sequence[float]
) -> dict[str, list[float]]:
    """Score pair i = (queries[i], documents[i]) in FlagEmbedding's five modes.

    Args:
        queries: Embeddings with all three vectors.
        documents: As many.
        weights: Of dense, sparse and token-vector score in the two weighted means.

    Returns:
        "colbert", "sparse", "dense", "sparse+dense" and "colbert+sparse+dense", each a list of one score a pair; NaN
        for a mean whose weights are all 0.

    Raises:
        ValueError: Not three weights, one is negative or no number, or all are 0.
    """
    try:
        of_dense, of_sparse, of_colbert = (float(weight) for weight in weights)
    except (TypeError, ValueError):
        of_dense = of_sparse = of_colbert = math.nan
    if not all(0 <= weight < math.inf for weight in (of_dense, of_sparse, of_colbert)) or not any(weights):
        raise ValueError(
            f"weights must be three numbers (dense, sparse, colbert), none negative, not all 0: got {weights!r:.60}"
        )
    dense, sparse, colbert = [], [], []
    for query, document in zip(queries, documents, strict=True):
        if query.dense is None or document.dense is None or query.sparse is None or document.sparse is None:
            raise ValueError("combined scores need dense and sparse vectors of both texts")
        if query.colbert_vecs is None or document.colbert_vecs is None:
            raise ValueError("combined scores need token vectors of both texts")
        dense.append(dense_score(query.dense, document.dense))
        sparse.append(lexical_score(query.sparse, document.sparse))
        colbert.append(colbert_score(query.colbert_vecs, document.colbert_vecs))
    pairs = list(zip(dense, sparse, colbert, strict=True))
    return {
        "colbert": colbert,
        "sparse": sparse,
        "dense": dense,
        "sparse+dense": [_mean((d, of_dense), (s, of_sparse)) for d, s, _ in pairs],
        "colbert+sparse+dense": [_mean((d, of_dense), (s, of_sparse), (c, of_colbert)) for d, s, c in pairs],
    }


def _mean(*scored: tuple[float, float]) -> float:
    """The mean of (score, weight) pairs."""
    total = sum(weight for _, weight in scored)
    return sum(score * weight for score, weight in scored) / total if total else math.nan
