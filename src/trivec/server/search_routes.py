"""Searching the collection that the server was started with. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from starlette.requests import Request
from starlette.responses import Response

from trivec.search.fusion import RRF, Weighted
from trivec.search.hits import Hit
from trivec.search.modes import Mode, Rerank
from trivec.server import arrays, fields
from trivec.server.errors import RequestError
from trivec.server.service import Service

if TYPE_CHECKING:  # pymilvus is of another extra
    from trivec.milvus import M3Collection


async def search(service: Service, request: Request) -> Response:
    """`POST /search`: `M3Collection.search`, its hits with the scores of each mode and the words that matched."""
    collection = _collection(service)
    body = await service.bodies.read(request)
    query = fields.text(body, "query")
    mode: Any = fields.choice(body, "mode", get_args(Mode), "hybrid")
    rerank: Any = fields.choice(body, "rerank", get_args(Rerank))
    reranker = service.reranker if rerank == "cross-encoder" else None
    if rerank == "cross-encoder" and reranker is None:
        raise RequestError("Validation", "this server has no cross-encoder: start it with --reranker", param="rerank")
    filter_ = fields.text(body, "filter") if body.get("filter") is not None else ""
    limit = fields.whole(body, "limit") or 10
    offset = fields.whole(body, "offset", 0) or 0
    candidates = fields.whole(body, "candidates")
    group: Any = fields.choice(body, "group", ("document",))
    matched_words = service.model.has_sparse

    def hits() -> list[Hit]:
        try:
            return collection.search(
                query,
                mode,
                limit=limit,
                offset=offset,
                filter=filter_,
                ranker=_ranker(body, mode),
                rerank=rerank,
                reranker=reranker,
                candidates=candidates,
                matched_words=matched_words,
                group=group,
            )
        except (TypeError, ValueError) as error:
            raise RequestError("Validation", str(error)) from error

    found = await service.in_thread(hits)
    return arrays.as_json({"query": query, "mode": mode, "hits": [_hit(hit) for hit in found]})


async def document(service: Service, request: Request) -> Response:
    """`GET /documents/{id}`: a document's text and metadata."""
    collection = _collection(service)
    identifier = request.path_params["id"]
    found = await service.in_thread(lambda: collection.get(identifier))
    if found is None:
        raise RequestError("NotFound", f"the collection {collection.name!r} has no document {identifier!r:.80}")
    return arrays.as_json({"id": found.id, "text": found.text, "metadata": found.metadata})


def _collection(service: Service) -> M3Collection:
    service.require_ready()
    if service.collection is None:
        raise RequestError("NotFound", "this server has no collection: start it with --uri and --collection")
    return service.collection


def _ranker(body: fields.Body, mode: str) -> RRF | Weighted | None:
    given = body.get("ranker")
    if given is None:
        return None
    if mode != "hybrid":
        raise fields.wrong("ranker", given, f"left out: it joins the two rankings of hybrid search, not of {mode}")
    if isinstance(given, str):
        given = {"kind": given}
    if not isinstance(given, dict) or given.get("kind") not in ("rrf", "weighted"):
        raise fields.wrong("ranker", given, '"rrf", "weighted", or {"kind": "weighted", "dense": 0.4, "sparse": 0.2}')
    numbers = {name: value for name, value in given.items() if name != "kind"}
    try:
        return RRF(**numbers) if given["kind"] == "rrf" else Weighted(**numbers)
    except (TypeError, ValueError) as error:
        raise RequestError("Validation", f"ranker: {error}", param="ranker") from error


def _hit(hit: Hit) -> dict[str, Any]:
    scores = {"dense": hit.dense_score, "sparse": hit.sparse_score, "colbert": hit.colbert_score}
    scores["cross-encoder"] = hit.cross_encoder_score
    return {
        "id": hit.id,
        "text": hit.text,
        "metadata": hit.metadata,
        "score": hit.score,
        "scores": {kind: score for kind, score in scores.items() if score is not None},
        "matched_words": [{"word": word, "weight": weight} for word, weight in hit.matched_words or ()],
    } | ({} if hit.chunks is None else {"chunks": [_hit(chunk) for chunk in hit.chunks]})
