"""The names of the ways to search, each said once. Imports nothing, as the command line lists them before it loads."""

from __future__ import annotations

from enum import Enum
from typing import Literal, get_args

Mode = Literal["dense", "sparse", "hybrid", "multi", "all"]
"""How a collection is searched: "multi" by token vectors, "all" by the weighted mean of all three scores."""

PairMode = Literal["dense", "sparse", "hybrid"]
"""Those that need no token vectors: how hard negatives are mined."""

Rerank = Literal["colbert", "cross-encoder"]
"""What orders the best candidates once more: MaxSim of token vectors, or a model that reads query and text together."""


class EvaluatedMode(str, Enum):
    """What an evaluation measures, in the order of its tables; an enum, as typer makes no list of a Literal."""

    dense = "dense"
    sparse = "sparse"
    multi_vector = "multi-vector"
    dense_sparse = "dense+sparse"
    all = "all"
    cross_encoder = "cross-encoder"
    bm25_words = "bm25-words"
    bm25_pieces = "bm25-pieces"


EVALUATED_MODES = tuple(mode.value for mode in EvaluatedMode)


def check_mode(mode: object, modes: object = Mode) -> None:
    """Make sure of a mode of search.

    Raises:
        ValueError: It is not one of `modes`.
    """
    if mode not in get_args(modes):
        raise ValueError(f"mode is {mode!r:.60}: it must be {', '.join(map(repr, get_args(modes)))}")
