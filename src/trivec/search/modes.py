"""The names of the ways to search, each said once. Imports nothing, as the command line lists them before it loads."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["dense", "sparse", "hybrid"]
"""How a collection is searched."""

EvaluatedMode = Literal["dense", "sparse", "multi-vector", "dense+sparse", "all", "bm25-words", "bm25-pieces"]
"""What an evaluation measures beside each other, in the order of its tables."""

EVALUATED_MODES: tuple[str, ...] = get_args(EvaluatedMode)


def check_mode(mode: object) -> None:
    """Make sure of a mode of search.

    Raises:
        ValueError: it is not one of `Mode`.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r:.60}: it must be {', '.join(map(repr, get_args(Mode)))}")
