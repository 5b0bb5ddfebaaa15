"""OpenAI's routes, as its clients really use them: base64 unless told otherwise, any name of a model, extra fields."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from trivec.server import arrays, fields
from trivec.server.errors import RequestError
from trivec.server.service import Service


async def embeddings(service: Service, request: Request) -> Response:
    """`POST /v1/embeddings`: dense vectors; `return` adds sparse and token vectors to each item."""
    body = await service.bodies.read(request)
    texts = fields.texts(body, "input")
    base64 = fields.choice(body, "encoding_format", ("float", "base64"), "float") == "base64"
    more = fields.choices(body, "return", ("dense", "sparse", "colbert"), ())
    check_dimensions(service, body)
    found, tokens = await service.encode(request, texts, more | {"dense"})
    dense, sparse, colbert_vecs = found.dense, found.sparse, found.colbert_vecs

    def item(i: int) -> dict[str, Any]:
        vectors: dict[str, Any] = {}
        if dense is not None:
            vectors["embedding"] = arrays.base64_text(dense[i]) if base64 else dense[i]
        if sparse is not None:
            vectors["sparse"] = arrays.indices_and_values(sparse, i)
        if colbert_vecs is not None:
            vectors["colbert"] = arrays.base64_array(colbert_vecs[i]) if base64 else colbert_vecs[i]
        return {"object": "embedding", "index": i} | vectors

    def numbers(i: int) -> int:
        return service.model.dim["dense"] + (colbert_vecs[i].size if colbert_vecs is not None else 0)

    content = {
        "object": "list",
        "data": await arrays.listed(len(found), item, numbers),
        "model": service.model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return arrays.as_json(content)


async def models(service: Service, _request: Request) -> Response:
    """`GET /v1/models`: the one model that there is."""
    model = {"id": service.model.name, "object": "model", "created": 0, "owned_by": "trivec"}
    return arrays.as_json({"object": "list", "data": [model]})


def check_dimensions(service: Service, body: fields.Body) -> None:
    """Accept the size that vectors have.

    Raises:
        RequestError: Another is asked for.
    """
    wanted, there = fields.whole(body, "dimensions"), service.model.dim["dense"]
    if wanted not in (None, there):
        raise RequestError(
            "Validation", f"dimensions is {wanted}: the vectors of this model have {there}", param="dimensions"
        )
