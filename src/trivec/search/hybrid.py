"""Searches and how their hits come about: by one kind of vector or two, fused; reranked; with the words that matched.

Reaches a store only through the two look-ups it is given, and a model only through what encodes or tokenizes; knows
nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from trivec.search.fusion import RRF, Candidate, Weighted, ranked
from trivec.search.hits import Hit
from trivec.search.matching import Spans, matched_words, shared_weights
from trivec.search.maxsim import scores_of_all
from trivec.search.modes import Mode, Rerank, check_mode
from trivec.vectors.embeddings import FloatArray, M3Embeddings, asked_for
from trivec.vectors.scoring import dense_score
from trivec.vectors.sparse import weights_by_id

# ("dense" or "sparse", query vectors) to the nearest documents of each query, best first, by the inner product, which
# is both `score` and `dense_score` or `sparse_score`. Sparse query vectors are weights by token id, none of them empty.
Nearest = Callable[[str, Sequence[Any]], list[list[Hit]]]

# Hits to the (tokens, dim) token vectors of their texts, by id; a document that is gone since has none.
TokenVectors = Callable[[Sequence[Hit]], Mapping[str, FloatArray]]

# (ids, "dense" and "sparse" or one of them) to the stored vectors, by id and kind; sparse ones are weights by token id.
Stored = Callable[[Iterable[str], Sequence[str]], Mapping[str, Mapping[str, Any]]]


def depth(
    mode: str,
    limit: int,
    offset: int,
    ranker: RRF | Weighted | None,
    rerank: str | None,
    candidates: int | None,
    most: int,
) -> int:
    """Check a search's arguments and return how many documents each search brings, of the `most` that a store gives."""
    check_mode(mode)
    if rerank not in (None, *get_args(Rerank)):
        raise ValueError(f"rerank is {rerank!r}: it must be {', '.join(map(repr, get_args(Rerank)))} or None")
    if ranker is not None and not isinstance(ranker, RRF | Weighted):
        raise TypeError(f"ranker is {ranker!r}: it must be RRF(...) or Weighted(...)")
    if ranker is not None and mode != "hybrid":
        raise ValueError(f"a ranker fuses the two rankings of a hybrid search; mode is {mode!r}")
    if rerank == "colbert" and mode in ("multi", "all"):
        raise ValueError(f"mode {mode!r} ranks by token vectors already: leave rerank={rerank!r} out")
    wanted = offset + limit
    said = f"offset + limit ({offset} + {limit})" if offset else f"limit ({limit})"
    if wanted > most:
        raise ValueError(f"{said} is beyond the {most:,} that a search can give: narrow the search by a filter")
    if candidates is not None and candidates < wanted:
        raise ValueError(f"candidates is {candidates}: it must be at least {said}")
    if mode in ("dense", "sparse") and rerank is None:
        return wanted
    return min(most, wanted * 3 if candidates is None else candidates)


def check_reranker(rerank: str | None, reranker: object) -> None:
    """Make sure that a cross-encoder is given where one is to order the hits, and only there."""
    if (reranker is not None) != (rerank == "cross-encoder"):
        raise ValueError('rerank="cross-encoder" and reranker=M3Reranker.load(...) go together: give both or none')


def found(
    mode: Mode, encoded: M3Embeddings, ranker: RRF | Weighted, nearest: Nearest, stored: Stored
) -> list[list[Hit]]:
    """Return the hits of each encoded query, best first; those of a hybrid search have both scores."""
    if mode == "dense":
        return nearest("dense", list(asked_for(encoded.dense)))
    if mode == "sparse":
        return by_lexical_weights(encoded, nearest)
    return fused(
        encoded, nearest("dense", list(asked_for(encoded.dense))), by_lexical_weights(encoded, nearest), ranker, stored
    )


def by_lexical_weights(encoded: M3Embeddings, nearest: Nearest) -> list[list[Hit]]:
    """Return each query's hits of a sparse search.

    A query without lexical weights is not sent to it, and a document that shares no token is no hit.
    """
    weights = query_weights(encoded)
    asked = iter(nearest("sparse", [query for query in weights if query]))
    return [[hit for hit in next(asked) if hit.score > 0] if query else [] for query in weights]


def fused(
    encoded: M3Embeddings,
    by_dense: Sequence[Sequence[Hit]],
    by_sparse: Sequence[Sequence[Hit]],
    ranker: RRF | Weighted,
    stored: Stored,
) -> list[list[Hit]]:
    """Join each query's two rankings.

    A document that only one search brought lacks the other's score: its stored vectors give it.
    """
    lacking: set[str] = set()
    for dense_hits, sparse_hits in zip(by_dense, by_sparse, strict=True):
        lacking |= {hit.id for hit in dense_hits} ^ {hit.id for hit in sparse_hits}
    vectors = stored(lacking, ["dense", "sparse"])
    queries = zip(asked_for(encoded.dense), query_weights(encoded), by_dense, by_sparse, strict=True)
    return [_fused(*query, vectors, ranker) for query in queries]


def reranked(
    queries: Sequence[FloatArray], found: Sequence[Sequence[Hit]], token_vectors: TokenVectors
) -> list[list[Hit]]:
    """Order each query's hits by MaxSim; a document that several queries found is asked for once."""
    by_id = token_vectors(list({hit.id: hit for hits in found for hit in hits}.values()))
    return [
        best_first(
            replace(hit, score=score, colbert_score=score) for hit in hits if (score := scores.get(hit.id)) is not None
        )
        for hits, scores in zip(found, late_interaction_scores(queries, found, by_id), strict=True)
    ]


def late_interaction_scores(
    queries: Sequence[FloatArray], found: Sequence[Sequence[Hit]], token_vectors: Mapping[str, FloatArray]
) -> list[dict[str, float]]:
    """Return MaxSim of each query with those of its hits whose token vectors are there, by id.

    A few large matrix products, as many small ones wait for each other's threads where processors are busy.
    """
    scores = []
    for query, hits in zip(queries, found, strict=True):
        ids = [hit.id for hit in hits if hit.id in token_vectors]
        (own,) = scores_of_all([query], (token_vectors[identifier] for identifier in ids))
        scores.append(dict(zip(ids, own.tolist(), strict=True)))
    return scores


def best_first(hits: Iterable[Hit]) -> list[Hit]:
    """Order hits by score, ties by id."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def reranked_together(
    queries: Sequence[str],
    found: Sequence[Sequence[Hit]],
    scores_of: Callable[[list[tuple[str, str]]], Sequence[float]],
) -> list[list[Hit]]:
    """Order each query's hits by what `scores_of` gives for pairs of query and text; it is asked once."""
    pairs = [(query, hit.text) for query, hits in zip(queries, found, strict=True) for hit in hits]
    scores = iter(scores_of(pairs))
    scored = [
        [replace(hit, score=(score := next(scores)), cross_encoder_score=score) for hit in hits] for hits in found
    ]
    return [sorted(hits, key=lambda hit: (-hit.score, hit.id)) for hits in scored]


def with_matched_words(
    queries: Sequence[str],
    encoded: M3Embeddings,
    found: Sequence[Sequence[Hit]],
    stored: Stored,
    spans: Callable[[str], Spans],
) -> list[list[Hit]]:
    """Fill `matched_words` of each query's hits; `spans` gives a text's token ids with their places in it."""
    vectors = stored({_row(hit) for hits in found for hit in hits}, ["sparse"])

    def filled(query: str, weights: Mapping[int, float], hits: Sequence[Hit]) -> list[Hit]:
        tokens = list(spans(query))
        shared = (shared_weights(weights, vectors.get(_row(hit), {"sparse": {}})["sparse"]) for hit in hits)
        return [
            replace(hit, matched_words=tuple(matched_words(query, tokens, of_hit)))
            for hit, of_hit in zip(hits, shared, strict=True)
        ]

    return [filled(*query) for query in zip(queries, query_weights(encoded), found, strict=True)]


def _row(hit: Hit) -> str:
    """The id under which a hit's text is stored: of a document, that of its best chunk."""
    return hit.chunks[0].id if hit.chunks else hit.id


def query_weights(encoded: M3Embeddings) -> list[dict[int, float]]:
    """Return each query's lexical weights by token id."""
    return [weights_by_id(row) for row in asked_for(encoded.sparse)]


def _fused(
    query: FloatArray,
    weights: Mapping[int, float],
    by_dense: Sequence[Hit],
    by_sparse: Sequence[Hit],
    vectors: Mapping[str, Mapping[str, Any]],
    ranker: RRF | Weighted,
) -> list[Hit]:
    """Fuse one query's two rankings; a document that is gone since one of them brought it is left out."""
    dense_ranks = {hit.id: rank for rank, hit in enumerate(by_dense, start=1)}
    sparse_ranks = {hit.id: rank for rank, hit in enumerate(by_sparse, start=1)}
    hits = {hit.id: hit for hit in by_dense}
    hits |= {hit.id: replace(hits.get(hit.id, hit), sparse_score=hit.score) for hit in by_sparse}
    candidates = {}
    for identifier, hit in hits.items():
        from_dense, from_sparse = hit.dense_score, hit.sparse_score
        if from_dense is None or from_sparse is None:
            if identifier not in vectors:
                continue
            own = vectors[identifier]
            from_dense = dense_score(query, np.array(own["dense"], np.float32)) if from_dense is None else from_dense
            from_sparse = (
                sum(shared_weights(weights, own["sparse"]).values(), 0.0) if from_sparse is None else from_sparse
            )
        ranks = dense_ranks.get(identifier), sparse_ranks.get(identifier)
        candidates[identifier] = Candidate(from_dense, from_sparse, *ranks)
        hits[identifier] = replace(hit, dense_score=from_dense, sparse_score=from_sparse)
    return [replace(hits[identifier], score=score) for identifier, score in ranked(candidates, ranker)]
