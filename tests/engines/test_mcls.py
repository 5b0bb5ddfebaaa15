"""Where the added `<s>` stand, and how many tokens a text may have so that all fit."""

from __future__ import annotations

import numpy as np
import pytest

from trivec.engines.mcls import cls_places, longest_before, with_more_cls, word_places

BEGIN, END = 0, 2


def test_a_cls_stands_before_every_so_many_tokens() -> None:
    assert with_more_cls(np.array([0, 5, 6, 7, 8, 9, 2]), 2).tolist() == [0, 5, 6, 0, 7, 8, 0, 9, 2]
    assert with_more_cls(np.array([0, 5, 6, 2]), 2).tolist() == [0, 5, 6, 2]
    assert with_more_cls(np.array([0, 2]), 1).tolist() == [0, 2]


@pytest.mark.parametrize("every", [1, 2, 7, 256])
@pytest.mark.parametrize("length", [2, 3, 4, 9, 257, 258, 259, 600])
def test_places_are_where_they_stand(length: int, every: int) -> None:
    longer = with_more_cls(np.array([BEGIN, *range(10, 8 + length), END]), every)
    assert (longer[cls_places(len(longer), every)] == BEGIN).all()
    assert longer[word_places(len(longer), every)].tolist() == [*range(10, 8 + length), END]


@pytest.mark.parametrize("every", [1, 2, 7, 256])
@pytest.mark.parametrize("limit", [2, 3, 8, 9, 100, 258, 259, 260, 8192])
def test_the_longest_text_that_fits(limit: int, every: int) -> None:
    longest = longest_before(limit, every)

    def lengthened(length: int) -> int:
        return len(with_more_cls(np.array([BEGIN, *[7] * (length - 2), END]), every))

    assert lengthened(longest) <= limit
    assert lengthened(longest + 1) > limit
