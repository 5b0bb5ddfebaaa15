"""Reads the body of a request, within limits of size and time, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
        if "expect" in request.headers and self._declared(request) > self.limit:
            raise self._too_large()  # the client waits to hear whether it may send the body
        deadline = _Deadline()
        chunks: list[bytes] = []
        try:
            async for chunk in self._chunks(request, deadline):
                self._held += len(chunk)
                chunks.append(chunk)
                if self._held > _AT_ONCE * self.limit:
                    raise RequestError("Overloaded", "too many large requests at once", retry_after=2)
            return _json_object(b"".join(chunks))
        except asyncio.CancelledError:
            if not deadline.passed:
                raise
            raise RequestError("Timeout", f"the body came too slowly: {deadline.size:,} bytes so far") from None
        finally:
            deadline.end()
            self._held -= sum(map(len, chunks))

    async def _chunks(self, request: Request, deadline: _Deadline) -> AsyncIterator[bytes]:
        """Yield a body piece by piece, or read it to its end for nothing: most clients look at no answer before."""
        too_large = self._declared(request) > self.limit
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            deadline.size += len(chunk)
            too_large = too_large or deadline.size > self.limit
            if too_large and (not more or deadline.size > _READ_FOR_NOTHING):
                raise self._too_large()
            if not too_large:
                yield chunk

    @staticmethod
    def _declared(request: Request) -> int:
        declared = request.headers.get("content-length", "")
        return int(declared) if declared.isdigit() else 0

    def _too_large(self) -> RequestError:
        return RequestError("TooLarge", f"the body is larger than {self.limit:,} bytes: send fewer texts at once")


class _Deadline:
    """Cancels the task that reads a body once it comes too slowly; much cheaper than a time limit on each step."""

    def __init__(self) -> None:
        self.size = 0
        self.passed = False
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_later(_SECONDS, self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._began + _SECONDS + self.size / _BYTES_PER_SECOND - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._task is not None:
            self.passed = True
            self._task.cancel()


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError("Malformed", f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestError("Validation", f"the body must be a JSON object, got {type(found).__name__}")
    return found
