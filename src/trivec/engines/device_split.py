"""Several engines that work as one: the texts of a window are dealt out among them, and each works in a thread.

Knows engines only by their interface; the devices are taken to be about equally fast.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from trivec.engines import EncodedBatch, Engine, Heads


class DeviceSplit:
    """An engine made of engines, one a device."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Join loaded engines of one precision; at least one."""
        self._engines = list(engines)
        self.precision = engines[0].precision

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, token_budget: int
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts on all devices at once; see `Engine.encode`.

        What one of the engines raises is raised here, once the others have finished the batch they are at.
        """
        results: queue.SimpleQueue[tuple[npt.NDArray[np.intp], EncodedBatch] | BaseException | None]
        results = queue.SimpleQueue()
        stopped = threading.Event()

        def work(engine: Engine, share: npt.NDArray[np.intp]) -> None:
            try:
                for texts, vectors in engine.encode([token_ids[i] for i in share], heads, token_budget):
                    results.put((share[texts], vectors))
                    if stopped.is_set():
                        break
                results.put(None)
            except BaseException as error:  # whatever it is, it belongs to the caller, who would wait for ever
                results.put(error)

        shares = deal([len(ids) for ids in token_ids], len(self._engines))
        threads = [
            threading.Thread(target=work, args=(engine, share), name="trivec-device", daemon=True)
            for engine, share in zip(self._engines, shares, strict=True)
            if len(share)
        ]
        for thread in threads:
            thread.start()
        try:
            working = len(threads)
            while working:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    working -= 1
                else:
                    yield result
        finally:
            stopped.set()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines:
            engine.close()


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
