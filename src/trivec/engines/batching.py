"""Groups texts of like length into batches under a token budget. Knows lengths, nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# What one more batch costs, in tokens of padding: all weights are read from memory once more, and kernels are made
# for its shape.
_BATCH_COST = 48


def plan_batches(lengths: npt.NDArray[np.integer], max_batch_tokens: int) -> list[npt.NDArray[np.intp]]:
    """Split texts into batches so that padding and the cost of batches are least together.

    Args:
        lengths: Tokens of each text, (n,).
        max_batch_tokens: Most tokens of a batch, padding included; a longer text makes a batch of its own.

    Returns:
        Indices into `lengths`, an array a batch, longest texts first (so that memory peaks at the start); every index
        exactly once.
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order].tolist()
    # Of all ways to cut the sorted texts into batches, the cheapest, by dynamic programming over where a batch ends.
    cost = [0, *[float("inf")] * len(order)]
    batch_of_end = [0] * (len(order) + 1)
    for start, longest in enumerate(descending):
        fitting = max(1, max_batch_tokens // longest)
        for end in range(start + 1, min(start + fitting, len(order)) + 1):
            with_batch = cost[start] + _BATCH_COST + longest * (end - start)
            if with_batch < cost[end]:
                cost[end], batch_of_end[end] = with_batch, start
    batches = []
    end = len(order)
    while end:
        batches.append(order[batch_of_end[end] : end])
        end = batch_of_end[end]
    return batches[::-1]


def plan_flat_batches(lengths: npt.NDArray[np.integer], max_batch_tokens: int) -> list[npt.NDArray[np.intp]]:
    """Split texts into batches for an engine that does not pad: the longest first, each filled up.

    Args:
        lengths: Tokens of each text, (n,).
        max_batch_tokens: Most tokens of a batch; a longer text makes a batch of its own.

    Returns:
        As `plan_batches`.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[list[np.intp]] = []
    room = 0
    for text in order:
        if lengths[text] > room:
            batches.append([])
            room = max_batch_tokens
        batches[-1].append(text)
        room -= int(lengths[text])
    return [np.array(batch, np.intp) for batch in batches]
