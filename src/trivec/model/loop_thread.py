"""An asyncio loop in a thread of its own, for a caller that is not on asyncio and wants several things at once.

A request that runs there can be cut off at any moment, which one that waits in a thread cannot.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import queue
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from trivec.errors import TrivecError

T = TypeVar("T")


class Begun(Generic[T]):
    """What was begun in the loop; `result` waits for it."""

    def __init__(self) -> None:
        # Done in one step, where Python's own futures have a Condition, which Ctrl-C can leave taken.
        self._done: queue.SimpleQueue[asyncio.Task[T]] = queue.SimpleQueue()

    def result(self) -> T:
        """Return what came of it, or raise what it raised."""
        return self._done.get().result()

    def finish(self, task: asyncio.Task[T]) -> None:
        """Hand the finished task over."""
        self._done.put(task)


class LoopThread:
    """The loop, for the time of a `with`: what is not done when it is left is cancelled.

    Args:
        at_end: Is awaited in the loop at the end, when everything else is done or cancelled.
    """

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        self._at_end = at_end
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> LoopThread:
        _thread.start_new_thread(self._run, ())
        return self

    def __exit__(self, *_exception: object) -> None:
        if os.getpid() != self._process:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._ended.get()

    def refuse_in_child(self) -> None:
        """Make sure that this process is the one where the loop runs.

        Raises:
            TrivecError: It was forked since.
        """
        if os.getpid() != self._process:
            raise TrivecError("this stream was begun before the process was forked: begin it in the child")

    def begin(self, work: Callable[[], Awaitable[T]]) -> Begun[T]:
        """Begin to await what `work` returns."""
        begun: Begun[T] = Begun()

        async def awaited() -> T:
            return await work()

        def start() -> None:
            task = self._loop.create_task(awaited())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(begun.finish)

        self._loop.call_soon_threadsafe(start)
        return begun

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(self._finish())
        finally:
            self._loop.close()
            self._ended.put(None)

    async def _finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._at_end()
