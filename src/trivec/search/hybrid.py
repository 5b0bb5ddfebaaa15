"""Searches and how their hits come about: dense, sparse, both fused, and reranked by token vectors.

Reaches Milvus only through the two look-ups it is given; this module knows nothing about connections or collections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trivec.milvus import rows
from trivec.search.fusion import RRF, Candidate, Weighted, ranked
from trivec.search.hits import Hit
from trivec.vectors.embeddings import asked_for
from trivec.vectors.scoring import colbert_score, dense_score

if TYPE_CHECKING:
    from trivec.model import M3Model
    from trivec.vectors.embeddings import M3Embeddings

# What a Milvus server gives for one query, `offset + limit`.
MOST_ROWS = 16_384

Row = Mapping[str, Any]

# (vector field, query vectors) to the nearest rows of each query: {"id", "distance", "entity": {"text", metadata...}}.
Nearest = Callable[[str, Sequence[Any]], list[list[Row]]]

# (ids, field names) to the stored fields, by id.
Stored = Callable[[Iterable[str], Sequence[str]], Mapping[str, Row]]


def depth(
    mode: str, limit: int, offset: int, ranker: RRF | Weighted | None, rerank: str | None, candidates: int | None
) -> int:
    """Check a search's arguments and return how many rows each search brings."""
    if mode not in ("dense", "sparse", "hybrid"):
        raise ValueError(f"mode is {mode!r}: it must be 'dense', 'sparse' or 'hybrid'")
    if rerank not in (None, "colbert"):
        raise ValueError(f"rerank is {rerank!r}: it must be 'colbert' or None")
    if ranker is not None and not isinstance(ranker, RRF | Weighted):
        raise TypeError(f"ranker is {ranker!r}: it must be RRF(...) or Weighted(...) of trivec.milvus")
    if ranker is not None and mode != "hybrid":
        raise ValueError(f"a ranker fuses the two rankings of a hybrid search; mode is {mode!r}")
    wanted = offset + limit
    said = f"offset + limit ({offset} + {limit})" if offset else f"limit ({limit})"
    if wanted > MOST_ROWS:
        raise ValueError(f"{said} is beyond the {MOST_ROWS:,} rows that Milvus gives: narrow the search by a filter")
    if candidates is not None and candidates < wanted:
        raise ValueError(f"candidates is {candidates}: it must be at least {said}")
    if mode != "hybrid" and rerank is None:
        return wanted
    return min(MOST_ROWS, wanted * 3 if candidates is None else candidates)


def dense(encoded: M3Embeddings, nearest: Nearest) -> list[list[Hit]]:
    """Return the hits of each query by its dense vector, best first."""
    return [
        [_hit(row, row["distance"], dense_score=float(row["distance"])) for row in ranking]
        for ranking in nearest("dense", list(asked_for(encoded.dense)))
    ]


def sparse(encoded: M3Embeddings, nearest: Nearest) -> list[list[Hit]]:
    """Return the hits of each query by its lexical weights, best first."""
    return [
        [_hit(row, row["distance"], sparse_score=float(row["distance"])) for row in ranking]
        for ranking in _nearest_sparse(_query_weights(encoded), nearest)
    ]


def hybrid(encoded: M3Embeddings, ranker: RRF | Weighted, nearest: Nearest, stored: Stored) -> list[list[Hit]]:
    """Return the hits of each query by both, fused; every hit has both scores."""
    weights = _query_weights(encoded)
    by_dense = nearest("dense", list(asked_for(encoded.dense)))
    by_sparse = _nearest_sparse(weights, nearest)
    # A row that only one search brought lacks the other's score: its stored vectors give it.
    lacking: set[str] = set()
    for dense_rows, sparse_rows in zip(by_dense, by_sparse, strict=True):
        lacking |= {row["id"] for row in dense_rows} ^ {row["id"] for row in sparse_rows}
    vectors = stored(lacking, ["dense", "sparse"])
    return [
        _fused(query, query_weights, dense_rows, sparse_rows, vectors=vectors, ranker=ranker)
        for query, query_weights, dense_rows, sparse_rows in zip(
            asked_for(encoded.dense), weights, by_dense, by_sparse, strict=True
        )
    ]


def reranked(encoded: M3Embeddings, found: Sequence[Sequence[Hit]], model: M3Model) -> list[list[Hit]]:
    """Order each query's hits by MaxSim of their token vectors; a text that several queries found is encoded once."""
    texts = {hit.id: hit.text for ranking in found for hit in ranking}
    documents = model.encode(
        list(texts.values()), return_dense=False, return_sparse=False, return_colbert_vecs=True, show_progress=False
    )
    by_id = dict(zip(texts, asked_for(documents.colbert_vecs), strict=True))
    scored = [
        [_with_colbert_score(hit, colbert_score(query, by_id[hit.id])) for hit in ranking]
        for query, ranking in zip(asked_for(encoded.colbert_vecs), found, strict=True)
    ]
    return [sorted(ranking, key=lambda hit: (-hit.score, hit.id)) for ranking in scored]


def _with_colbert_score(hit: Hit, score: float) -> Hit:
    return replace(hit, score=score, colbert_score=score)


def _nearest_sparse(weights: Sequence[Mapping[int, float]], nearest: Nearest) -> list[list[Row]]:
    """As `nearest`; a query without lexical weights is not sent, and a row that shares no token is no hit."""
    asked = iter(nearest("sparse", [query for query in weights if query]))
    return [[row for row in next(asked) if row["distance"] > 0] if query else [] for query in weights]


def _fused(
    query: np.ndarray,
    weights: Mapping[int, float],
    dense_rows: Sequence[Row],
    sparse_rows: Sequence[Row],
    *,
    vectors: Mapping[str, Row],
    ranker: RRF | Weighted,
) -> list[Hit]:
    """Fuse one query's two rankings."""
    by_dense = {row["id"]: (rank, float(row["distance"])) for rank, row in enumerate(dense_rows, start=1)}
    by_sparse = {row["id"]: (rank, float(row["distance"])) for rank, row in enumerate(sparse_rows, start=1)}
    by_id = {row["id"]: row for row in (*dense_rows, *sparse_rows)}
    candidates = {}
    for identifier in by_id:
        own = vectors.get(identifier, {})
        dense_rank, from_dense = by_dense.get(identifier) or (None, _dense_score(query, own["dense"]))
        sparse_rank, from_sparse = by_sparse.get(identifier) or (None, rows.sparse_score(weights, own["sparse"]))
        candidates[identifier] = Candidate(from_dense, from_sparse, dense_rank, sparse_rank)
    return [
        _hit(
            by_id[identifier],
            score,
            dense_score=candidates[identifier].dense_score,
            sparse_score=candidates[identifier].sparse_score,
        )
        for identifier, score in ranked(candidates, ranker)
    ]


def _dense_score(query: np.ndarray, stored: Sequence[float]) -> float:
    return dense_score(query, np.array(stored, dtype=np.float32))


def _hit(row: Row, score: float, **scores: float) -> Hit:
    entity = row["entity"]
    return Hit(row["id"], entity["text"], float(score), rows.metadata(entity), **scores)


def _query_weights(encoded: M3Embeddings) -> list[dict[int, float]]:
    return [rows.sparse_weights(row) for row in asked_for(encoded.sparse)]
