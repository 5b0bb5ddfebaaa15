"""text-embeddings-inference's routes, and those of the Hugging Face client that posts to `/`."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from trivec.server import arrays, fields, rerank_routes, truncation
from trivec.server.errors import RequestError
from trivec.server.openai_routes import check_dimensions
from trivec.server.service import Service
from trivec.vectors.embeddings import M3Embeddings, asked_for


async def embed(service: Service, request: Request) -> Response:
    """`POST /embed`: dense vectors."""
    return await _embed(service, request, await service.bodies.read(request))


async def embed_sparse(service: Service, request: Request) -> Response:
    """`POST /embed_sparse`: lexical weights by token id."""
    body = await service.bodies.read(request)
    found = asked_for((await _encoded(service, request, body, "sparse")).sparse)

    def weights(i: int) -> list[dict[str, Any]]:
        row = arrays.indices_and_values(found, i)
        pairs = zip(row["indices"].tolist(), row["values"].tolist(), strict=True)
        return [{"index": index, "value": value} for index, value in pairs]

    return arrays.as_json(await arrays.listed(len(found), weights, lambda i: 5 * int(found.indptr[i + 1])))


async def embed_all(service: Service, request: Request) -> Response:
    """`POST /embed_all`: token vectors of the ColBERT head (where text-embeddings-inference gives hidden states)."""
    body = await service.bodies.read(request)
    found = await _encoded(service, request, body, "colbert")
    return arrays.as_json(await arrays.colbert_lists(asked_for(found.colbert_vecs)))


async def similarity(service: Service, request: Request) -> Response:
    """`POST /similarity`: cosines of one sentence with others."""
    return await _similarity(service, request, await service.bodies.read(request))


async def root(service: Service, request: Request) -> Response:
    """`POST /`: what `inputs` looks like decides, as for the endpoints of Hugging Face."""
    body = await service.bodies.read(request)
    if "texts" in body or "documents" in body:
        return await rerank_routes.reranked(service, request, body)
    if isinstance(body.get("inputs"), dict):
        return await _similarity(service, request, body)
    return await _embed(service, request, body)


async def tokenize(service: Service, request: Request) -> Response:
    """`POST /tokenize`: the tokens of texts, and where each begins and ends, in characters."""
    body = await service.bodies.read(request)
    texts = _few_enough(service, fields.texts(body, "inputs"))
    special = fields.flag(body, "add_special_tokens", True)
    _no_prompt(body)
    tokenizer = service.model.tokenizer

    def tokens(text: str) -> list[dict[str, Any]]:
        found = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        listed = []
        for token_id, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            is_special = token_id in tokenizer.unused_ids and start == end
            piece = tokenizer.convert_ids_to_tokens(token_id) or ""
            place = {"start": None, "stop": None} if is_special else {"start": start, "stop": end}
            shown = piece if is_special else text[start:end] or piece
            listed.append({"id": token_id, "text": shown, "special": is_special} | place)
        return listed

    return arrays.as_json(await service.in_thread(lambda: [tokens(text) for text in texts]))


async def decode(service: Service, request: Request) -> Response:
    """`POST /decode`: the texts that token ids stand for."""
    body = await service.bodies.read(request)
    given = body.get("ids")
    lists = [given] if isinstance(given, list) and given and all(isinstance(one, int) for one in given) else given
    if not isinstance(lists, list) or not all(isinstance(ids, list) for ids in lists):
        raise fields.wrong("ids", given, "a list of token ids, or several such lists")
    if not lists:
        raise RequestError("Empty", "ids is empty: give at least one list", param="ids")
    skip = fields.flag(body, "skip_special_tokens", True)
    tokenizer = service.model.tokenizer
    for ids in lists:
        for one in ids:
            if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < tokenizer.vocabulary_size:
                raise fields.wrong("ids", one, f"token ids from 0 to {tokenizer.vocabulary_size - 1}")
    return arrays.as_json(
        await service.in_thread(lambda: [tokenizer.decode(ids, skip_special_tokens=skip) for ids in lists])
    )


async def _embed(service: Service, request: Request, body: fields.Body) -> Response:
    check_dimensions(service, body)
    found = await _encoded(service, request, body, "dense")
    return arrays.as_json(await arrays.dense_lists(asked_for(found.dense)))


async def _similarity(service: Service, request: Request, body: fields.Body) -> Response:
    inputs, parameters = body.get("inputs"), body.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(inputs, dict):
        raise fields.wrong("inputs", inputs, '{"source_sentence": a text, "sentences": [texts]}')
    if not isinstance(parameters, dict):
        raise fields.wrong("parameters", parameters, "an object")
    texts = [fields.text(inputs, "source_sentence"), *fields.texts(inputs, "sentences")]
    _no_prompt(parameters)
    found, _ = await service.encode(request, texts, ("dense",), truncate=truncation.asked(parameters))
    dense = asked_for(found.dense)
    return arrays.as_json(dense[1:] @ dense[0])


async def _encoded(service: Service, request: Request, body: fields.Body, kind: str) -> M3Embeddings:
    _no_prompt(body)
    found, _ = await service.encode(
        request,
        fields.texts(body, "inputs"),
        (kind,),
        normalize=fields.flag(body, "normalize", True),
        truncate=truncation.asked(body),
    )
    return found


def _few_enough(service: Service, texts: list[str]) -> list[str]:
    if len(texts) > service.settings.max_texts:
        limit = service.settings.max_texts
        raise RequestError("Validation", f"{len(texts):,} texts are more than the {limit:,} of a request")
    return texts


def _no_prompt(body: fields.Body) -> None:
    if body.get("prompt_name") is not None:
        raise fields.wrong("prompt_name", body["prompt_name"], "left out: this model has no prompts")
