"""Ordering documents by how well they answer a query, as Cohere, vLLM and text-embeddings-inference ask for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from trivec.server import arrays, fields, truncation
from trivec.server.errors import RequestError
from trivec.server.service import Service, in_groups
from trivec.vectors.embeddings import M3Embedding, M3Embeddings
from trivec.vectors.scoring import colbert_score, dense_score, lexical_score, weighted_mean

# By the name of a part of a mode, its score and the vectors that this is of.
_SCORES: dict[str, tuple[Callable[[Any, Any], float], str]] = {
    "dense": (dense_score, "dense"),
    "sparse": (lexical_score, "sparse"),
    "colbert": (colbert_score, "colbert_vecs"),
}
MODES = ("colbert", "dense", "sparse", "sparse+dense", "colbert+sparse+dense")
CROSS_ENCODER = "cross-encoder"


async def rerank(service: Service, request: Request) -> Response:
    """`POST /rerank`, `/v1/rerank`, `/v2/rerank`: documents, best first."""
    return await reranked(service, request, await service.bodies.read(request))


async def reranked(service: Service, request: Request, body: fields.Body) -> Response:
    """Answer in the form of whoever asks: `texts` is text-embeddings-inference, `documents` are the others."""
    if "documents" in body:
        try:
            return await _of_documents(service, request, body)
        except RequestError as error:
            error.openai = True
            raise
    texts = fields.texts(body, "texts")
    with_text = fields.flag(body, "return_text", False)
    # For the cross-encoder, whose scores are logits; those of vectors are what they are.
    raw = fields.flag(body, "raw_scores", False)
    scores, _, _ = await _scores(service, request, body, texts, raw=raw)
    order = _best_first(scores)
    return arrays.as_json(
        [{"index": i, "score": scores[i]} | ({"text": texts[i]} if with_text else {}) for i in order],
    )


async def _of_documents(service: Service, request: Request, body: fields.Body) -> Response:
    given = body["documents"]
    if isinstance(given, list):
        given = [one.get("text") if isinstance(one, dict) else one for one in given]
    documents = fields.texts({"documents": given}, "documents")
    top_n = fields.whole(body, "top_n") or len(documents)
    with_text = fields.flag(body, "return_documents", False)
    raw = fields.flag(body, "raw_scores", False)
    scores, tokens, truncated = await _scores(service, request, body, documents, raw=raw)
    results = [
        {"index": i, "relevance_score": scores[i]} | ({"document": {"text": documents[i]}} if with_text else {})
        for i in _best_first(scores)[:top_n]
    ]
    return arrays.as_json(
        {
            "id": f"rerank-{secrets.token_hex(8)}",
            "model": service.model.name,
            "results": results,
            "usage": {"total_tokens": tokens, "truncated": truncated},
        }
    )


async def _scores(
    service: Service, request: Request, body: fields.Body, documents: list[str], *, raw: bool
) -> tuple[list[float], int, int]:
    """Score documents for the query of the body; also tell how many tokens there were, and how many were cut."""
    model = service.model
    query = fields.text(body, "query")
    by_vectors = "colbert" if model.has_colbert else "dense"
    default = by_vectors if service.reranker is None else CROSS_ENCODER
    mode = fields.choice(body, "mode", (*MODES, CROSS_ENCODER)) or default
    if len(documents) > service.settings.max_texts:
        limit = service.settings.max_texts
        raise RequestError("Validation", f"{len(documents):,} documents are more than the {limit:,} of a request")
    truncate = truncation.asked(body)
    if mode == CROSS_ENCODER:
        return await service.relevance(request, query, documents, normalize=not raw, truncate=truncate)
    parts = mode.split("+")
    of_query, tokens = await service.encode(request, [query], parts, truncate=truncate)
    truncated = of_query.truncated
    scores: list[float] = []
    for some in in_groups(documents, model.max_length):
        found, more = await service.encode(request, some, parts, truncate=truncate)
        tokens, truncated = tokens + more, truncated + found.truncated
        scores += await service.in_thread(partial(_scored, parts, of_query[0], found, model.fusion_weights))
    return scores, tokens, truncated


def _scored(
    parts: list[str], query: M3Embedding, documents: M3Embeddings, weights: tuple[float, float, float]
) -> list[float]:
    scores = []
    for part in parts:
        score, kind = _SCORES[part]
        scores.append(np.array([score(getattr(query, kind), getattr(document, kind)) for document in documents]))
    if len(parts) == 1:
        return [float(one) for one in scores[0]]
    of_part = dict(zip(("dense", "sparse", "colbert"), weights, strict=True))
    mean: list[float] = weighted_mean(scores, [of_part[part] for part in parts]).tolist()
    return mean


def _best_first(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])
