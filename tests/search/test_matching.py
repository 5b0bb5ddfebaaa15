"""The words a hit shares with a query read as the query spells them."""

from __future__ import annotations

import pytest

from trivec.search.matching import matched_words

#         0123456789012345678
QUERY = "spring tide, spring"
SPRING, TID, E, COMMA, MARK = 5, 6, 7, 8, 9
TOKENS = [(SPRING, (0, 6)), (TID, (7, 10)), (E, (10, 11)), (COMMA, (11, 12)), (MARK, (13, 13)), (SPRING, (13, 19))]


def test_neighbouring_pieces_are_joined_and_repeated_ones_count_once() -> None:
    assert matched_words(QUERY, TOKENS, {SPRING: 0.5, TID: 0.25, E: 1.0}) == [("tide", 1.25), ("spring", 0.5)]


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({}, []),
        ({TID: 0.25}, [("tid", 0.25)]),
        ({E: 0.25}, [("e", 0.25)]),
        ({COMMA: 0.1, E: 0.2}, [("e,", pytest.approx(0.3))]),
        ({MARK: 0.1}, [("\u2581", 0.1)]),
        ({MARK: 0.1, SPRING: 0.5}, [("spring", 0.6)]),
        ({99: 3.0}, []),
    ],
)
def test_parts_of_words(shared: dict[int, float], words: list[tuple[str, float]]) -> None:
    assert matched_words(QUERY, TOKENS, shared) == words
