"""Several engines that work as one: the texts of a window are dealt out among them, and each works in a thread.

Knows engines only by their interface; the devices are taken to be about equally fast.
"""

from __future__ import annotations

import _thread
import itertools
import queue
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from trivec.engines import EncodedBatch, Engine, Heads

Batch = tuple[npt.NDArray[np.intp], EncodedBatch]
"""Which texts, and their vectors."""


class DeviceSplit:
    """An engine made of engines, one a device."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Join loaded engines of one precision; at least one."""
        self._engines = list(engines)
        self._calls = itertools.count()
        self.precision = engines[0].precision
        self.batch_tokens = sum(engine.batch_tokens for engine in engines)

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, max_batch_tokens: int | None
    ) -> Iterator[Batch]:
        """Compute the vectors of texts on all devices at once; see `Engine.encode`.

        Who gets the first share, which is the larger one, changes from call to call. What one of the engines raises is
        raised here, once the others have finished the batch they are at.
        """
        first = next(self._calls) % len(self._engines)
        engines = [*self._engines[first:], *self._engines[:first]]
        shares = [share for share in deal([len(ids) for ids in token_ids], len(engines)) if len(share)]

        def encoded(engine: Engine, share: npt.NDArray[np.intp]) -> Iterator[Batch]:
            for texts, vectors in engine.encode([token_ids[i] for i in share], heads, max_batch_tokens):
                yield share[texts], vectors

        if len(shares) == 1:  # such as a query, which a thread would only delay
            return encoded(engines[0], shares[0])
        return _at_once([encoded(engine, share) for engine, share in zip(engines, shares, strict=False)])

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines:
            engine.close()


def _at_once(works: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Yield what all of the iterators yield, each run in a thread of its own."""
    results: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()
    # Neither Event nor Thread, which Ctrl-C can leave locked: single steps only.
    stopped = False
    ended: list[Iterator[Batch]] = []

    def run(work: Iterator[Batch]) -> None:
        try:
            for batch in work:
                results.put(batch)
                if stopped:
                    break
            results.put(None)
        except BaseException as error:  # whatever it is, it belongs to the caller, who would wait for ever
            results.put(error)
        finally:
            ended.append(work)

    begun = 0
    try:
        for work in works:
            _thread.start_new_thread(run, (work,))
            begun += 1
        working = begun
        while working:
            result = results.get()
            if isinstance(result, BaseException):
                try:
                    raise result
                finally:
                    del result  # else the error and this frame would keep each other, and the weights, alive
            if result is None:
                working -= 1
            else:
                yield result
    finally:
        stopped = True
        while len(ended) < begun:
            time.sleep(0.001)


def deal(lengths: Sequence[int], hands: int) -> list[npt.NDArray[np.intp]]:
    """Deal texts out so that everybody gets about as many tokens, and texts of every length.

    Args:
        lengths: Tokens of each text.
        hands: Among how many.

    Returns:
        Indices into `lengths`, an array a hand (some empty if there are fewer texts), every index exactly once.
    """
    order = np.argsort(-np.array(lengths), kind="stable")
    place = np.arange(len(order)) % (2 * hands)
    # Longest first, back and forth: 0 1 2 2 1 0 0 1 2 ...
    hand = np.where(place < hands, place, 2 * hands - 1 - place)
    return [order[hand == number] for number in range(hands)]
