"""Reads the body of a request, within limits of size and time, as JSON."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from trivec.server.errors import RequestError

# A body must come at this rate, once it has had so many seconds: connections that trickle would fill the server.
_SECONDS, _BYTES_PER_SECOND = 20.0, 256_000
# As many bodies of the largest size may be read at once; more than that is memory that nobody has planned for.
_AT_ONCE = 8
_READ_FOR_NOTHING = 1_000_000_000


class BodyReader:
    """Reads bodies of at most `limit` bytes each, and not too much at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0

    async def read(self, request: Request) -> dict[str, Any]:
        """Return the JSON object that a request brings.

        Raises:
            RequestError: It is too large, comes too slowly, or is no JSON object.
        """
        declared = request.headers.get("content-length", "")
        too_large = declared.isdigit() and int(declared) > self.limit
        if too_large and "expect" in request.headers:  # the client waits to hear whether it may send the body
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        began = time.monotonic()
        try:
            while True:
                left = began + _SECONDS + size / _BYTES_PER_SECOND - time.monotonic()
                try:
                    message = await asyncio.wait_for(request.receive(), left)
                except asyncio.TimeoutError:
                    raise RequestError("Timeout", f"the body came too slowly: {size:,} bytes so far") from None
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                too_large = too_large or size > self.limit
                if not too_large:
                    self._held += len(chunk)
                    chunks.append(chunk)
                # Of a body that is too large the rest is read all the same: most clients look at no answer before.
                elif size > _READ_FOR_NOTHING:
                    raise self._too_large()
                if self._held > _AT_ONCE * self.limit:
                    raise RequestError("Overloaded", "too many large requests at once", retry_after=2)
                if not message.get("more_body", False):
                    break
            if too_large:
                raise self._too_large()
            return _json_object(b"".join(chunks))
        finally:
            self._held -= sum(map(len, chunks))

    def _too_large(self) -> RequestError:
        return RequestError("TooLarge", f"the body is larger than {self.limit:,} bytes: send fewer texts at once")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError("Malformed", f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestError("Validation", f"the body must be a JSON object, got {type(found).__name__}")
    return found
