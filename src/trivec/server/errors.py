"""What is refused, and how it is told: every error of every path is JSON, in the form that the path's clients read."""

from __future__ import annotations

import math
from typing import Any

import orjson
from starlette.responses import Response

# text-embeddings-inference's names of errors, by which its clients know them, and their statuses; then ours.
STATUS = {
    "Validation": 422,
    "Tokenizer": 422,
    "Empty": 400,
    "Backend": 424,
    "Overloaded": 429,
    "Unhealthy": 503,
    "Malformed": 400,
    "Unauthorized": 401,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "Timeout": 408,
    "TooLarge": 413,
}
_OPENAI_TYPES = {
    "Backend": "server_error",
    "Unhealthy": "server_error",
    "Overloaded": "rate_limit_error",
    "Unauthorized": "authentication_error",
    "NotFound": "not_found_error",
}
# Clients of OpenAI's give up at once when told to wait for longer.
_MOST_SECONDS = 120


class RequestError(Exception):
    """A request that gets no answer.

    Args:
        kind: Out of `STATUS`.
        message: What is wrong and what to do about it.
        param: The field of the body that is to blame.
        retry_after: Seconds after which asking again makes sense.
        status: Where it is not that of the kind.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.param = kind, message, param
        self.retry_after = retry_after
        self.status = status or STATUS[kind]
        self.openai: bool | None = None  # the form it is told in, where that is not the path's
        self.allowed: tuple[str, ...] = ()  # the methods that a path takes, of which this was none


def speaks_openai(path: str) -> bool:
    """Whether errors of a path have OpenAI's form, else text-embeddings-inference's."""
    return path.startswith(("/v1/", "/v2/")) or path == "/embeddings"


def error_response(error: RequestError, openai: bool) -> Response:
    """Tell an error, in OpenAI's form or in text-embeddings-inference's."""
    headers = {"connection": "close"} if error.kind == "Timeout" else {}
    if error.retry_after is not None:
        headers["retry-after"] = str(min(_MOST_SECONDS, max(1, math.ceil(error.retry_after))))
    if error.allowed:
        headers["allow"] = ", ".join(error.allowed)
    if error.kind == "Unauthorized":
        headers["www-authenticate"] = "Bearer"
    if error.kind in ("Backend", "Tokenizer"):
        headers["x-should-retry"] = "false"  # for openai's client, which asks again after any status above 499
    status = error.status
    body: dict[str, Any]
    if openai:
        status = {"Validation": 400, "Tokenizer": 400, "Backend": 500}.get(error.kind, status)
        kind = _OPENAI_TYPES.get(error.kind, "invalid_request_error")
        nested = {"message": error.message, "type": kind, "param": error.param, "code": error.kind.lower()}
        body = {"error": nested, "message": error.message}
    else:
        body = {"error": error.message, "error_type": error.kind}
    return Response(orjson.dumps(body), status, headers, "application/json")
