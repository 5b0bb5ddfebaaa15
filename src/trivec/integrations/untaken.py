"""Vectors that were computed because they will be asked for next, until they are.

Frameworks ask one object for the dense vectors of some texts and another for the sparse ones. Both come out of the same
pass, so that whoever is asked first computes both, and the other kind waits here. This is no cache: what is taken is
gone.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trivec.support.forks import ForkSafeLock

# Most vectors that are kept, unless a single call gave more: LlamaIndex computes 2,048 texts before it asks for the
# sparse vectors of the first. Sparse ones take about a kilobyte each, dense ones of BGE-M3 four.
_LIMIT = 16_384


@dataclass
class _Vector:
    rows: Any  # the array or matrix of all texts of the call
    row: int
    times: int  # how often the text was in that call, and so how often it will be asked for


class Untaken:
    """Vectors by kind ("dense", "sparse") and text. Safe to use from several threads."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[tuple[str, str], _Vector] = OrderedDict()
        self._lock = ForkSafeLock()

    def keep(self, kind: str, texts: Sequence[str], rows: Any, times: Counter[str]) -> None:
        """Keep the vectors of one call; the oldest go where there are too many.

        Args:
            kind: "dense" or "sparse".
            texts: The texts, each once.
            rows: Their vectors: (n, dim) float32, or n x vocabulary.
            times: How often each text will be asked for.
        """
        with self._lock.own():
            for row, text in enumerate(texts):
                before = self._vectors.pop((kind, text), None)
                self._vectors[kind, text] = _Vector(rows, row, times[text] + (before.times if before else 0))
            while len(self._vectors) > max(_LIMIT, len(texts)):
                self._vectors.popitem(last=False)

    def take(self, kind: str, texts: Iterable[str]) -> dict[str, Any]:
        """Return the vectors of those texts that are here, by text, each text counted as often as it is in `texts`."""
        taken = {}
        with self._lock.own():
            for text, times in Counter(texts).items():
                vector = self._vectors.get((kind, text))
                if vector is None:
                    continue
                taken[text] = vector.rows[vector.row]
                vector.times -= times
                if vector.times <= 0:
                    del self._vectors[kind, text]
        return taken

    def texts(self, kind: str) -> list[str]:
        """Return the texts of which there are vectors, oldest first."""
        with self._lock.own():
            return [text for of_kind, text in self._vectors if of_kind == kind]
