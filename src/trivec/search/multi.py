"""Searching by token vectors: alone ("multi"), or by the weighted mean of all three scores ("all").

Which documents are looked at is decided before: the candidates of the other two searches, those of a store that finds
documents by MaxSim itself, or every one. Knows nothing of stores or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trivec.search.fusion import FusionWeights
from trivec.search.hits import Hit
from trivec.search.hybrid import Stored, TokenVectors, best_first, late_interaction_scores, query_weights
from trivec.search.matching import shared_weights
from trivec.support.arguments import checked_weights
from trivec.vectors.embeddings import FloatArray, M3Embeddings, asked_for
from trivec.vectors.scoring import dense_score, weighted_mean


def checked(weights: Sequence[float] | None, mode: str) -> FusionWeights | None:
    """Return the weights that a search was given for its three scores.

    Raises:
        ValueError: They are not three, or none in this mode has weights.
    """
    if weights is None:
        return None
    if mode != "all":
        raise ValueError(f"weights are of the three scores of mode 'all'; mode is {mode!r}")
    of_dense, of_sparse, of_tokens = checked_weights(weights)
    return of_dense, of_sparse, of_tokens


def united(*rankings: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """Join rankings of the same queries, each document once, with the scores that any of them knows."""
    together = []
    for of_one_query in zip(*rankings, strict=True):
        hits: dict[str, Hit] = {}
        for hit in (hit for ranking in of_one_query for hit in ranking):
            known = hits.get(hit.id, hit)
            hits[hit.id] = replace(
                known,
                dense_score=hit.dense_score if known.dense_score is None else known.dense_score,
                sparse_score=hit.sparse_score if known.sparse_score is None else known.sparse_score,
                colbert_score=hit.colbert_score if known.colbert_score is None else known.colbert_score,
            )
        together.append(list(hits.values()))
    return together


def by_all_three(
    encoded: M3Embeddings,
    candidates: Sequence[Sequence[Hit]],
    weights: FusionWeights,
    stored: Stored,
    token_vectors: TokenVectors,
) -> list[list[Hit]]:
    """Order each query's candidates by the weighted mean of the three scores (M3 paper, section 3.2).

    Scores that the searches did not bring come from the stored vectors. A document that is gone since is left out.

    Args:
        encoded: The queries' three vectors.
        candidates: Each query's documents, with what is known of their scores.
        weights: Of dense, sparse and token-vector score.
        stored: The look-up of stored dense and sparse vectors.
        token_vectors: The look-up of token vectors.
    """
    every = {hit.id: hit for hits in candidates for hit in hits}
    without = {hit.id for hits in candidates for hit in hits if hit.dense_score is None or hit.sparse_score is None}
    vectors = stored(without, ["dense", "sparse"])
    unscored = {hit.id for hits in candidates for hit in hits if hit.colbert_score is None}
    tokens = token_vectors([every[identifier] for identifier in unscored])
    scores = late_interaction_scores(asked_for(encoded.colbert_vecs), candidates, tokens)
    queries = zip(asked_for(encoded.dense), query_weights(encoded), scores, candidates, strict=True)
    return [
        best_first(
            scored for hit in hits if (scored := _scored(hit, dense, lexical, by_tokens, vectors, weights)) is not None
        )
        for dense, lexical, by_tokens, hits in queries
    ]


def _scored(
    hit: Hit,
    dense: FloatArray,
    lexical: Mapping[int, float],
    by_tokens: Mapping[str, float],
    vectors: Mapping[str, Mapping[str, Any]],
    weights: FusionWeights,
) -> Hit | None:
    of_dense, of_sparse, of_colbert = hit.dense_score, hit.sparse_score, hit.colbert_score
    if of_dense is None or of_sparse is None:
        if hit.id not in vectors:
            return None
        own = vectors[hit.id]
        of_dense = dense_score(dense, np.array(own["dense"], np.float32)) if of_dense is None else of_dense
        if of_sparse is None:
            of_sparse = sum(shared_weights(lexical, own["sparse"]).values(), 0.0)
    of_colbert = by_tokens.get(hit.id) if of_colbert is None else of_colbert
    if of_colbert is None:
        return None
    score = float(weighted_mean([np.array(one) for one in (of_dense, of_sparse, of_colbert)], weights))
    return replace(hit, score=score, dense_score=of_dense, sparse_score=of_sparse, colbert_score=of_colbert)
