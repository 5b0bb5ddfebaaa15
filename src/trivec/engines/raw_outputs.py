"""What the heads gave for a batch on the CPU, checked and made the vectors that users get. Knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trivec.engines import EncodedBatch
from trivec.errors import TrivecError
from trivec.vectors.sparse import pool_lexical_weights


@dataclass(frozen=True)
class RawOutputs:
    """Without padding: (n, dim), and a (tokens,) and a (tokens - 1, dim) array a text."""

    dense: npt.NDArray[np.float32] | None
    weights: list[npt.NDArray[np.float32]] | None
    vectors: list[npt.NDArray[np.float32]] | None


def encoded_batch(
    token_ids: Sequence[npt.NDArray[np.int32]],
    raw: RawOutputs,
    folder: Path,
    vocabulary_size: int,
    unused_ids: Sequence[int],
) -> EncodedBatch:
    """Pool the weights per token id.

    Args:
        token_ids: The batch's texts.
        raw: What the heads gave for them.
        folder: Of the checkpoint, for the error.
        vocabulary_size: Width of the sparse vectors.
        unused_ids: Tokens that are no words.

    Raises:
        TrivecError: A number is not finite.
    """
    for values in (raw.dense, *(raw.weights or ()), *(raw.vectors or ())):
        if values is not None and not np.isfinite(values).all():
            raise TrivecError(f"{folder} is damaged: its weights give vectors that are not finite numbers")
    sparse = None
    if raw.weights is not None:
        sparse = pool_lexical_weights(token_ids, raw.weights, vocabulary_size, unused_ids)
    return EncodedBatch(raw.dense, sparse, raw.vectors)
