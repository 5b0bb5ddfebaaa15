"""trivec's own routes: the three vectors in one call, the five scores of pairs, and what the server says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

import trivec
from trivec.search.modes import Mode
from trivec.server import arrays, fields
from trivec.server.errors import RequestError
from trivec.server.service import MOST_COLBERT_TOKENS, Service, in_groups
from trivec.support.arguments import checked_weights
from trivec.vectors.embeddings import M3Embeddings, asked_for
from trivec.vectors.scoring import combined_scores

KINDS = ("dense", "sparse", "colbert")


async def encode(service: Service, request: Request) -> Response:
    """`POST /encode`: the vectors asked for, all from one pass."""
    body = await service.bodies.read(request)
    texts = fields.texts(body, "inputs")
    wanted = fields.choices(body, "return", KINDS, ("dense", "sparse"))
    form = fields.choice(body, "encoding", ("float", "base64"))
    colbert_dtype = fields.choice(body, "dtype", ("float32", "float16"), "float32")
    if colbert_dtype == "float16" and form == "float":
        raise RequestError("Validation", 'dtype "float16" is for token vectors in base64', param="dtype")
    embeddings, tokens = await service.encode(
        request,
        texts,
        wanted,
        normalize=fields.flag(body, "normalize", True),
        mcls=fields.whole(body, "mcls"),
        max_length=fields.whole(body, "max_length", 2),
    )
    content: dict[str, Any] = {"model": service.model.name}
    content |= await _vectors(embeddings, form, np.dtype(colbert_dtype or "float32"))
    cut = sorted(embeddings.cut)
    content["usage"] = {"tokens": tokens, "truncated": len(cut), "cut": cut}
    return arrays.as_json(content)


async def _vectors(embeddings: M3Embeddings, form: str | None, colbert_dtype: np.dtype[Any]) -> dict[str, Any]:
    dense, sparse, colbert_vecs = embeddings.dense, embeddings.sparse, embeddings.colbert_vecs
    found: dict[str, Any] = {}
    if dense is not None:
        found["dense"] = arrays.base64_array(dense) if form == "base64" else await arrays.dense_lists(dense)
    if sparse is not None:
        found["sparse"] = arrays.base64_rows(sparse) if form == "base64" else await arrays.sparse_lists(sparse)
    if colbert_vecs is not None:
        if form == "float":
            found["colbert"] = await arrays.colbert_lists(colbert_vecs)
        else:
            found["colbert"] = await arrays.listed(
                len(colbert_vecs),
                lambda i: arrays.base64_array(colbert_vecs[i].astype(colbert_dtype, copy=False)),
                lambda i: colbert_vecs[i].size,
            )
    return found


async def score(service: Service, request: Request) -> Response:
    """`POST /score`: pairs of texts in the five modes of `M3Model.compute_score`."""
    body = await service.bodies.read(request)
    pairs = body.get("pairs")
    if not isinstance(pairs, list):
        raise fields.wrong("pairs", pairs, "a list of [query, passage]")
    for i, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise fields.wrong(f"pairs[{i}]", pair, "two texts")
    if not pairs:
        raise RequestError("Empty", "pairs is empty: give at least one", param="pairs")
    weights = body.get("weights")
    try:
        weights = service.model.fusion_weights if weights is None else checked_weights(weights)
    except ValueError as error:
        raise RequestError("Validation", str(error), param="weights") from error
    texts = [text for pair in pairs for text in pair]
    if len(texts) > service.settings.max_texts:
        limit = service.settings.max_texts
        raise RequestError(
            "Validation", f"{len(texts):,} texts are more than the {limit:,} of a request", param="pairs"
        )
    max_length = fields.whole(body, "max_length", 2)
    scores: dict[str, list[float]] = {}
    tokens = truncated = 0
    # Of a pair, both texts must be in one group.
    start = 0
    for group in in_groups([f"{query} {passage}" for query, passage in pairs], 2 * service.max_length):
        some = texts[2 * start : 2 * (start + len(group))]
        start += len(group)
        embeddings, more = await service.encode(request, some, KINDS, max_length=max_length)
        of_group = await service.in_thread(partial(_scored, embeddings, weights))
        tokens, truncated = tokens + more, truncated + embeddings.truncated
        for mode, values in of_group.items():
            scores.setdefault(mode, []).extend(values)
    usage = {"tokens": tokens, "truncated": truncated}
    return arrays.as_json({"model": service.model.name} | scores | {"usage": usage})


def _scored(embeddings: M3Embeddings, weights: Sequence[float]) -> dict[str, list[float]]:
    each = list(embeddings)
    return combined_scores(each[::2], each[1::2], weights)


async def token_weights(service: Service, request: Request) -> Response:
    """`POST /token_weights`: the tokens of a text with their lexical weights, heaviest first."""
    body = await service.bodies.read(request)
    text = fields.text(body, "inputs")
    embeddings, _ = await service.encode(request, [text], ("sparse",))
    return arrays.as_json(service.model.named_weights(asked_for(embeddings.sparse)))


async def live(_service: Service, _request: Request) -> Response:
    """`GET /live`: whether the process answers."""
    return arrays.as_json({"status": "live"})


async def health(service: Service, _request: Request) -> Response:
    """`GET /health`: whether requests are taken."""
    service.require_ready()
    return arrays.as_json({"status": "ready"})


async def metrics(service: Service, _request: Request) -> Response:
    """`GET /metrics`: what Prometheus scrapes."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


async def fingerprint(service: Service, _request: Request) -> Response:
    """`GET /fingerprint`: the model's content; the first time, all its files are read."""
    model = service.model
    return arrays.as_json({"fingerprint": await service.in_thread(lambda: model.fingerprint)})


async def info(service: Service, _request: Request) -> Response:
    """`GET /info`: the model and every limit; the first fields are text-embeddings-inference's."""
    model, reranker, settings = service.model, service.reranker, service.settings
    limits = {
        "max_queue_tokens": settings.max_queue_tokens,
        "max_texts": settings.max_texts,
        "max_body": settings.max_body,
        "max_colbert_tokens": MOST_COLBERT_TOKENS,
    }
    return arrays.as_json(
        {
            "model_id": model.name,
            "model_sha": None,
            "model_dtype": {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}.get(
                model.precision, model.precision
            ),
            "model_type": {"embedding": {"pooling": "cls"}},
            "max_concurrent_requests": settings.max_queue_tokens,
            "max_input_length": model.max_length,
            "max_batch_tokens": settings.max_queue_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": settings.max_texts,
            "auto_truncate": True,
            "tokenization_workers": 1,
            "version": trivec.__version__,
            "trivec": {
                "name": model.name,
                "precision": model.precision,
                "max_length": model.max_length,
                "dim": model.dim,
                "has_sparse": model.has_sparse,
                "has_colbert": model.has_colbert,
                "fusion_weights": list(model.fusion_weights),
                "own_fusion_weights": model.config.fusion_weights is not None,
                "reranker": None
                if reranker is None
                else {"name": reranker.name, "precision": reranker.precision, "max_length": reranker.max_length},
                "limits": limits,
                "collection": None if service.collection is None else service.collection.name,
                "modes": list(get_args(Mode)),
                "rerankers": ["colbert"] if model.has_colbert else [],
            },
        }
    )
