"""Asks for one window after another, some at once, and gives the answers in order; for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from trivec.support.arguments import checked_text

Answer = TypeVar("Answer")

# Windows of one call that are under way at once: while one is computed, the next has arrived, and a third is on its way
# or being read.
AT_ONCE = 3


class Gathers(Protocol):
    """Makes windows of elements that come one by one; a window has a length."""

    def add(self, element: Any) -> Any:
        """Add an element; return a window if one is full, else None."""
        ...

    def rest(self) -> Any:
        """Return the window that is not full, perhaps of no element."""
        ...


async def in_order(
    elements: Iterable[Any] | AsyncIterable[Any], gathering: Gathers, ask: Callable[[Any], Awaitable[Answer]]
) -> AsyncGenerator[Answer, None]:
    """Yield the answers for all elements, window by window.

    If going through the elements raises, that is raised after the answers for what came before. What is under way when
    this is closed is cancelled.

    Args:
        elements: The elements, those of an asynchronous iterable being texts that nobody has checked yet.
        gathering: Makes windows of them.
        ask: Gives the answer for a window.
    """
    under_way: deque[asyncio.Future[Answer]] = deque()
    each = aiter(_unchecked(elements) if isinstance(elements, AsyncIterable) else _one_by_one(elements))
    failure = None
    try:
        while True:
            try:
                element = await anext(each)
                window = gathering.add(element)
            except StopAsyncIteration:
                break
            except Exception as error:  # the caller's iterable may raise anything: what came before is answered
                failure = error
                break
            if window is not None:
                under_way.append(asyncio.ensure_future(ask(window)))
                if len(under_way) == AT_ONCE:
                    yield await under_way.popleft()
        if len(rest := gathering.rest()):
            under_way.append(asyncio.ensure_future(ask(rest)))
        while under_way:
            yield await under_way.popleft()
    finally:
        for answer in under_way:
            answer.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    if failure is not None:
        raise failure


async def _one_by_one(elements: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for element in elements:
        yield element


async def _unchecked(texts: AsyncIterable[Any]) -> AsyncGenerator[str, None]:
    i = 0
    async for text in texts:
        yield checked_text(i, text)
        i += 1
