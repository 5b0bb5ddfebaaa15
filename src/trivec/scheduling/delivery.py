"""Brings answers from the thread that computes them to an event loop: all of a batch by one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque

from trivec.scheduling.requests import Answer
from trivec.vectors.embeddings import M3Embeddings


class Deliveries:
    """Answers on their way to one event loop.

    `asyncio.wrap_future` wakes the loop for each by itself, and hands the interpreter to and fro as often.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin with none on its way."""
        self._loop = loop
        self._there: deque[tuple[asyncio.Future[M3Embeddings], Answer]] = deque()
        self._woken = False

    def awaited(self, answer: Answer) -> asyncio.Future[M3Embeddings]:
        """Return what is awaited for an answer; if that is cancelled or fails before, the answer is cancelled."""
        future: asyncio.Future[M3Embeddings] = self._loop.create_future()

        def there(answer: Answer) -> None:
            self._there.append((future, answer))
            if not self._woken and not self._loop.is_closed():
                self._woken = True
                self._loop.call_soon_threadsafe(self._deliver)

        future.add_done_callback(lambda _: answer.cancel())
        answer.add_done_callback(there)  # type: ignore[arg-type]
        return future

    def _deliver(self) -> None:
        self._woken = False  # first: what comes from now on may be missed below
        while self._there:
            future, answer = self._there.popleft()
            if future.done():
                continue
            if answer.cancelled():
                future.cancel()
            elif (error := answer.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(answer.result())
