"""MCLS: a `<s>` before every so many tokens of a long text, whose hidden states' mean is the dense vector.

A training-free way to have long texts read better (M3-Embedding, arXiv 2402.03216, section 3.4 "MCLS", where a `<s>`
stands before every 256 tokens). Knows token ids and where the added ones lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def with_more_cls(token_ids: npt.NDArray[np.int32], every: int) -> npt.NDArray[np.int32]:
    """Return a text with `<s>` before each `every` tokens of what lies between its own `<s>` and `</s>`.

    Args:
        token_ids: (tokens,), `<s>` first and `</s>` last.
        every: At least 1.
    """
    return np.insert(token_ids, np.arange(1 + every, len(token_ids) - 1, every), token_ids[0])


def longest_before(max_length: int, every: int) -> int:
    """Return how many tokens a text may have so that with what is added it has at most `max_length`; at least 2."""
    within = max_length - 1  # all but </s>: groups of a <s> and up to `every` tokens
    groups, rest = divmod(within, every + 1)
    return groups * every + max(0, rest - 1) + 2


def cls_places(length: int, every: int) -> npt.NDArray[np.intp]:
    """Where the `<s>` of a text of so many tokens lie, added ones among them."""
    return np.arange(0, max(1, length - 1), every + 1)


def word_places(length: int, every: int) -> npt.NDArray[np.intp]:
    """Where all other tokens of a text lie."""
    return np.delete(np.arange(length), cls_places(length, every))


def cls_means(hidden: Sequence[FloatArray], every: int | None) -> FloatArray:
    """Return the mean hidden state of each text's `<s>`, (n, H); without added ones that of its first token.

    Args:
        hidden: (tokens, H) of each of n texts.
        every: Tokens from one `<s>` to the next; None: there is one.
    """
    if every is None:
        return np.stack([rows[0] for rows in hidden])
    return np.stack([rows[cls_places(len(rows), every)].mean(axis=0) for rows in hidden])


def without_cls(rows: FloatArray, every: int | None) -> FloatArray:
    """Return a copy of what a text has for each token, (tokens, D), without what it has for `<s>`."""
    return rows[1:].copy() if every is None else rows[word_places(len(rows), every)]
