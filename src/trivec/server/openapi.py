"""What the server takes and gives, as OpenAPI 3.1: tested against the routes, in both directions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response

import trivec
from trivec.search.modes import Mode, Rerank
from trivec.server import arrays
from trivec.server.fields import LARGEST_WHOLE
from trivec.server.native_routes import KINDS
from trivec.server.rerank_routes import CROSS_ENCODER, MODES
from trivec.server.service import Service

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": ["boolean", "null"]}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_POSITIVE: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": LARGEST_WHOLE}
_LENGTH: Schema = {"type": ["integer", "null"], "minimum": 2, "description": "Most tokens of a text that are read."}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _but_not(together: dict[str, str], required: tuple[str, ...], /, **properties: Schema) -> Schema:
    """An object in which some values must not stand together."""
    refused = {"properties": {name: {"const": value} for name, value in together.items()}, "required": [*together]}
    return {**_object(required, **properties), "not": refused}


def _one_of(*words: str) -> Schema:
    return {"type": ["string", "null"], "enum": [*words, None]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXTS: Schema = {"anyOf": [_TEXT, _list(_TEXT, minItems=1)]}
_NUMBERS = _list(_NUMBER)
_SPARSE = _object(("indices", "values"), indices=_list(_INTEGER), values=_NUMBERS)
_SOME_KINDS: Schema = _list({"enum": list(KINDS)})
_KINDS: Schema = {"anyOf": [{"type": "string", "enum": list(KINDS)}, _SOME_KINDS, {"type": "null"}]}
_ONE_KIND_AT_LEAST: Schema = {"anyOf": [_KINDS["anyOf"][0], {**_SOME_KINDS, "minItems": 1}, {"type": "null"}]}
_CUTTING: dict[str, Schema] = {
    "truncate": {**_FLAG, "description": "false: refuse longer texts. Otherwise they are cut."},
    "truncation_direction": {**_one_of("Right", "Left", "right", "left"), "description": "The end that is cut off."},
}
_TEI: dict[str, Schema] = {"inputs": _TEXTS, "normalize": _FLAG, **_CUTTING}
_RANKER: Schema = {
    "anyOf": [
        {"enum": ["rrf", "weighted", None]},
        _object(("kind",), kind={"const": "rrf"}, k={"type": "number", "exclusiveMinimum": 0}),
        _object(("kind",), kind={"const": "weighted"}, dense=_NUMBER, sparse=_NUMBER),
    ]
}
_RERANK: dict[str, Schema] = {"query": _TEXT, "mode": _one_of(*MODES, CROSS_ENCODER), **_CUTTING}
_OF_TEXTS = _object(("query", "texts"), texts=_TEXTS, return_text=_FLAG, raw_scores=_FLAG, **_RERANK)
_OF_DOCUMENTS = _object(
    ("query", "documents"),
    documents={"anyOf": [_TEXT, _list({"anyOf": [_TEXT, _object(("text",), text=_TEXT)]}, minItems=1)]},
    top_n=_POSITIVE,
    return_documents=_FLAG,
    raw_scores=_FLAG,
    **_RERANK,
)
_BEST_FIRST = _list(_object(("index", "score"), index=_INTEGER, score=_NUMBER, text=_TEXT))
_RESULTS = _object(
    ("id", "model", "results", "usage"),
    id=_TEXT,
    model=_TEXT,
    results=_list(_object(("index", "relevance_score"), index=_INTEGER, relevance_score=_NUMBER)),
    usage=_object(("total_tokens", "truncated"), total_tokens=_INTEGER, truncated=_INTEGER),
)
_SIMILARITY = _object(
    ("inputs",),
    inputs=_object(("source_sentence", "sentences"), source_sentence=_TEXT, sentences=_TEXTS),
    parameters={"anyOf": [_object(**_CUTTING), {"type": "null"}]},
)
_USAGE = _object(("tokens", "truncated"), tokens=_INTEGER, truncated=_INTEGER, cut=_list(_INTEGER))
_WORD = _object(("start", "end", "weight"), start=_INTEGER, end=_INTEGER, weight=_NUMBER)
_HIT = _object(
    ("id", "text", "metadata", "score", "scores", "matched_words"),
    id=_TEXT,
    text=_TEXT,
    metadata={"type": "object"},
    score=_NUMBER,
    scores={"type": "object", "additionalProperties": _NUMBER},
    matched_words=_list(_object(("word", "weight"), word=_TEXT, weight=_NUMBER)),
)
_DIMENSIONS: Schema = {**_POSITIVE, "description": "The model's own, if given."}

_SCHEMAS: dict[str, Schema] = {
    "Error": _object(("error", "error_type"), error=_TEXT, error_type=_TEXT),
    "OpenAIError": _object(
        ("error", "message"),
        error=_object(
            ("message", "type", "param", "code"),
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code=_TEXT,
        ),
        message=_TEXT,
    ),
    "Array": {
        **_object(
            ("shape", "dtype", "data"),
            shape=_list(_INTEGER),
            dtype={"enum": ["float32", "float16", "int32"]},
            data={"type": "string", "contentEncoding": "base64"},
        ),
        "description": "Its bytes, little-endian, row after row.",
    },
    "Rows": {
        **_object(
            ("shape", "indptr", "indices", "values"),
            shape=_list(_INTEGER),
            indptr=_ref("Array"),
            indices=_ref("Array"),
            values=_ref("Array"),
        ),
        "description": "A sparse matrix in compressed rows (CSR).",
    },
}

_EMBEDDINGS = (
    _object(
        ("input",),
        input=_TEXTS,
        model={},
        encoding_format=_one_of("float", "base64"),
        dimensions=_DIMENSIONS,
        **{"return": {**_KINDS, "description": "Vectors to add to each item."}},
    ),
    _object(
        ("object", "data", "model", "usage"),
        object={"const": "list"},
        data=_list(_object(("object", "index", "embedding"), index=_INTEGER, embedding={"anyOf": [_NUMBERS, _TEXT]})),
        model=_TEXT,
        usage=_object(("prompt_tokens", "total_tokens"), prompt_tokens=_INTEGER, total_tokens=_INTEGER),
    ),
)
_ANY_RERANK = ({"anyOf": [_OF_TEXTS, _OF_DOCUMENTS]}, {"anyOf": [_BEST_FIRST, _RESULTS]})

# Of each route: its method, what it is for, its body (None: it takes none) and its answer.
_ROUTES: dict[str, tuple[str, str, Schema | None, Schema]] = {
    "/encode": (
        "post",
        "Dense, sparse and token vectors, all from one pass.",
        _but_not(
            {"encoding": "float", "dtype": "float16"},
            ("inputs",),
            inputs=_TEXTS,
            max_length=_LENGTH,
            normalize=_FLAG,
            mcls={**_POSITIVE, "description": "One more <s> before every so many tokens."},
            encoding=_one_of("float", "base64"),
            dtype={**_one_of("float32", "float16"), "description": "Of token vectors in base64."},
            **{"return": {**_ONE_KIND_AT_LEAST, "description": "By default dense and sparse."}},
        ),
        _object(
            ("model", "usage"),
            model=_TEXT,
            dense={"anyOf": [_list(_NUMBERS), _ref("Array")]},
            sparse={"anyOf": [_list(_SPARSE), _ref("Rows")]},
            colbert=_list({"anyOf": [_list(_NUMBERS), _ref("Array")]}),
            usage=_USAGE,
        ),
    ),
    "/score": (
        "post",
        "Pairs of a query and a passage in five modes.",
        _object(
            ("pairs",),
            pairs=_list(_list(_TEXT, minItems=2, maxItems=2), minItems=1),
            weights={
                "anyOf": [
                    _list({"type": "number", "minimum": 0}, minItems=3, maxItems=3, contains={"exclusiveMinimum": 0}),
                    {"type": "null"},
                ],
                "description": "Of dense, sparse and token-vector score in the two means.",
            },
            max_length=_LENGTH,
        ),
        _object(("model", "usage", *MODES), model=_TEXT, usage=_USAGE, **dict.fromkeys(MODES, _NUMBERS)),
    ),
    "/explain": (
        "post",
        "Why a text matches a query: words, their weights, and which are near to which.",
        _object(("query", "text"), query=_TEXT, text=_TEXT),
        _object(
            ("query", "text", "query_words", "text_words", "alignment", "scores", "truncated"),
            query=_TEXT,
            text=_TEXT,
            query_words=_list(_WORD),
            text_words=_list(_WORD),
            alignment={"anyOf": [_list(_NUMBERS), {"type": "null"}]},
            scores={"type": "object", "additionalProperties": _NUMBER},
            truncated={"type": "boolean"},
        ),
    ),
    "/token_weights": (
        "post",
        "The tokens of a text with their lexical weights, heaviest first.",
        _object(("inputs",), inputs=_TEXT),
        _list(_list({"anyOf": [_TEXT, _NUMBER]}, minItems=2, maxItems=2)),
    ),
    "/search": (
        "post",
        "Documents of the collection that the server was started with.",
        _object(
            ("query",),
            query={**_TEXT, "pattern": r"\S"},
            mode=_one_of(*get_args(Mode)),
            limit={**_POSITIVE, "maximum": 1000},
            offset={"type": ["integer", "null"], "minimum": 0, "maximum": 1000},
            filter={"type": ["string", "null"]},
            ranker=_RANKER,
            rerank=_one_of(*get_args(Rerank)),
            group=_one_of("document"),
            candidates=_POSITIVE,
        ),
        _object(("query", "mode", "hits"), query=_TEXT, mode=_TEXT, hits=_list(_HIT)),
    ),
    "/documents/{id}": (
        "get",
        "A document of the collection.",
        None,
        _object(("id", "text", "metadata"), id=_TEXT, text=_TEXT, metadata={"type": "object"}),
    ),
    "/health": ("get", "Whether requests are taken.", None, _object(("status",), status=_TEXT)),
    "/live": ("get", "Whether the process answers.", None, _object(("status",), status=_TEXT)),
    "/info": ("get", "The model and every limit.", None, _object(("model_id", "trivec"), model_id=_TEXT, trivec={})),
    "/fingerprint": ("get", "The model's content.", None, _object(("fingerprint",), fingerprint=_TEXT)),
    "/metrics": ("get", "For Prometheus.", None, _TEXT),
    "/v1/embeddings": ("post", "OpenAI's embeddings.", *_EMBEDDINGS),
    "/embeddings": ("post", "OpenAI's embeddings.", *_EMBEDDINGS),
    "/v1/models": ("get", "The one model.", None, _object(("object", "data"), object=_TEXT, data=_list({}))),
    "/": (
        "post",
        "By what it brings: /embed, /similarity or /rerank.",
        {"anyOf": [_object(("inputs",), dimensions=_DIMENSIONS, **_TEI), _SIMILARITY, _OF_TEXTS, _OF_DOCUMENTS]},
        {"anyOf": [_list(_NUMBERS), _NUMBERS, _BEST_FIRST, _RESULTS]},
    ),
    "/embed": ("post", "Dense vectors.", _object(("inputs",), dimensions=_DIMENSIONS, **_TEI), _list(_NUMBERS)),
    "/embed_sparse": (
        "post",
        "Lexical weights.",
        _object(("inputs",), **_TEI),
        _list(_list(_object(("index", "value"), index=_INTEGER, value=_NUMBER))),
    ),
    "/embed_all": ("post", "Token vectors.", _object(("inputs",), **_TEI), _list(_list(_NUMBERS))),
    "/similarity": ("post", "Cosines of one sentence with others.", _SIMILARITY, _NUMBERS),
    "/tokenize": (
        "post",
        "The tokens of texts.",
        _object(("inputs",), inputs=_TEXTS, add_special_tokens=_FLAG),
        _list(
            _list(
                _object(
                    ("id", "text", "special", "start", "stop"),
                    id=_INTEGER,
                    text=_TEXT,
                    special={"type": "boolean"},
                    start={"type": ["integer", "null"]},
                    stop={"type": ["integer", "null"]},
                )
            )
        ),
    ),
    "/decode": (
        "post",
        "The texts of token ids.",
        _object(
            ("ids",),
            ids={"anyOf": [_list(_INTEGER, minItems=1), _list(_list(_INTEGER), minItems=1)]},
            skip_special_tokens=_FLAG,
        ),
        _list(_TEXT),
    ),
    "/rerank": ("post", "Documents, best first.", *_ANY_RERANK),
    "/v1/rerank": ("post", "Documents, best first.", *_ANY_RERANK),
    "/v2/rerank": ("post", "Documents, best first.", *_ANY_RERANK),
}


async def document(_service: Service, _request: Request) -> Response:
    """`GET /openapi.json`: this description."""
    return arrays.as_json(_description())


@lru_cache(maxsize=1)
def _description() -> dict[str, Any]:
    paths = {path: {route[0]: _operation(path, *route)} for path, route in _ROUTES.items()}
    paths["/"]["get"] = {
        "summary": "The search page.",
        "operationId": "get /",
        "responses": {"200": {"description": "The page.", "content": {"text/html": {"schema": _TEXT}}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "trivec serve", "version": trivec.__version__},
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, method: str, summary: str, body: Schema | None, answer: Schema) -> Schema:
    content = "text/plain" if path == "/metrics" else "application/json"
    errors = {"anyOf": [_ref("Error"), _ref("OpenAIError")]}
    operation: Schema = {
        "summary": summary,
        "operationId": f"{method} {path}",
        "responses": {
            "200": {"description": "The answer.", "content": {content: {"schema": answer}}},
            "default": {
                "description": "What is wrong, and what to do about it.",
                "content": {"application/json": {"schema": errors}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if "{id}" in path:
        operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    return operation
