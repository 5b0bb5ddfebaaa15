"""Groups texts of like length into batches under a token budget. Knows lengths, nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A batch takes no shorter text once padding would pass this share of it ...
_MAX_PADDING = 0.08
# ... and these many tokens: so much padding costs less than to read all weights from memory once more.
_CHEAP_PADDING = 64


def plan_batches(lengths: npt.NDArray[np.integer], token_budget: int) -> list[npt.NDArray[np.intp]]:
    """Split texts into batches.

    Args:
        lengths: Tokens of each text, (n,).
        token_budget: Most tokens of a batch, padding included; a longer text makes a batch of its own.

    Returns:
        Indices into `lengths`, an array a batch, longest texts first (so that memory peaks at the start); every index
        exactly once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = tokens = 0
    for end, index in enumerate(order):
        length = int(lengths[index])
        padded = int(lengths[order[start]]) * (end - start + 1)
        padding = padded - tokens - length
        if end > start and (padded > token_budget or (padding > max(_MAX_PADDING * padded, _CHEAP_PADDING))):
            batches.append(order[start:end])
            start, tokens = end, 0
        tokens += length
    if len(order):
        batches.append(order[start:])
    return batches
