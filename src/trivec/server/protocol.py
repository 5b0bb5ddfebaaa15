"""HTTP/1.1 as uvicorn speaks it, with a time limit on what it has none for: the headers of a request."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Key of a request's scope: a future that is done once its connection is lost.
LOST = "trivec.lost"
# A connection that asks for nothing, or whose headers trickle in, is closed after so many seconds.
_SECONDS = 20.0


class Protocol(HttpToolsProtocol):
    """A connection."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._wait()

    def on_message_begin(self) -> None:
        """Wait for the headers of a request that has begun."""
        super().on_message_begin()
        self.scope[LOST] = self._lost  # type: ignore[literal-required]
        self._wait()

    def on_headers_complete(self) -> None:
        """Wait no more: the body has a limit of its own."""
        self._end_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Read on, behind a large body too: else nobody would see that the client goes away."""
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more, and tell those that compute for this client."""
        self._end_waiting()
        super().connection_lost(exc)
        self._lost.set_result(None)

    def _wait(self) -> None:
        self._end_waiting()
        self._due = asyncio.get_running_loop().call_later(_SECONDS, self.transport.close)

    def _end_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
