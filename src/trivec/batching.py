"""Groups texts of like length into batches under a token budget. Knows lengths, nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A batch takes no shorter text once padding would pass this share of it ...
MAX_PADDING = 0.08
# ... unless it is still so small (in tokens) that computing it alone would cost more than the padding.
_SMALL_BATCH = 512


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
        if end > start and (padded > token_budget or (padding > MAX_PADDING * padded and tokens >= _SMALL_BATCH)):
            batches.append(order[start:end])
            start, tokens = end, 0
        tokens += length
    if len(order):
        batches.append(order[start:])
    return batches
