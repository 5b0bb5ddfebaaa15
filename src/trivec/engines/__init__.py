"""The seam between the model and what computes it.

An engine turns token ids into the vectors of the heads asked for, in batches of its own making. It owns the weights and
the device; it knows nothing about text, windows or progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # so that the command line can read `precisions` without waiting for either
    import numpy as np
    import numpy.typing as npt

    from trivec.vectors.sparse import SparseMatrix


@dataclass(frozen=True)
class Heads:
    """Which vectors to compute, and whether dense and token vectors are scaled to length 1.

    `mcls` says that the texts have a `<s>` before each so many tokens (module `mcls`): the dense vector is the mean of
    them all, and none of them has a token vector. None: there is one at the start only.
    """

    dense: bool = True
    sparse: bool = True
    colbert: bool = False
    normalize: bool = True
    mcls: int | None = None


@dataclass(frozen=True)
class EncodedBatch:
    """The vectors of a batch of n texts, None for a head that was not asked for.

    Attributes:
        dense: (n, dim) float32.
        sparse: n x vocabulary, float32.
        colbert_vecs: n arrays of (tokens - 1, token dim) float32.
    """

    dense: npt.NDArray[np.float32] | None
    sparse: SparseMatrix | None
    colbert_vecs: list[npt.NDArray[np.float32]] | None


class Engine(Protocol):
    """What the model asks of an engine. `encode` may be called from several threads at once."""

    precision: str
    """What the encoder computes in, out of `precisions.PRECISIONS`."""

    batch_tokens: int
    """About how many tokens it computes at once if left to itself: a call with fewer leaves it partly idle."""

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, max_batch_tokens: int | None
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts: one int32 array of token ids a text, of any lengths.

        Args:
            token_ids: The texts, at least one.
            heads: What to compute.
            max_batch_tokens: Most tokens computed at once; a longer text goes alone. None: what the engine does best
                with, which it may also stay under otherwise.

        Yields:
            Indices into `token_ids` and the vectors of those texts, a batch after another; every index exactly once.
        """
        ...

    def close(self) -> None:
        """Give the weights' memory back; the engine cannot be used afterwards."""
        ...
