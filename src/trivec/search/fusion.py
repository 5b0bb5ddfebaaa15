"""Hybrid search's ranking: one list of ids from a dense and a sparse one.

The two lists are combined here and not by Milvus, whose weighted ranker normalises scores differently on Milvus Lite
(minimum to maximum of the list) and on a server, so that one query would rank differently on the two. Fusing here also
keeps both scores of every hit. This module knows nothing about Milvus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Candidate:
    """What the two searches know of a row.

    Attributes:
        dense_score: Inner product of the dense vectors.
        sparse_score: Sum of products of the weights of shared tokens.
        dense_rank: Place in the dense list from 1; None where it is not in it.
        sparse_rank: Place in the sparse list from 1; None where it is not in it.
    """

    dense_score: float
    sparse_score: float
    dense_rank: int | None = None
    sparse_rank: int | None = None


@dataclass(frozen=True)
class RRF:
    """Reciprocal rank fusion: the sum over the lists of 1 / (k + rank), ranks from 1.

    Cormack, Clarke and Buettcher, SIGIR 2009, whose k is 60.
    """

    k: float = 60

    def __post_init__(self) -> None:
        _check_number("k of RRF", self.k)
        if not 0 < self.k < inf:
            raise ValueError(f"k of RRF is {self.k}: it must be positive")

    def score(self, candidate: Candidate) -> float:
        """Return the fused score of a candidate."""
        ranks = (candidate.dense_rank, candidate.sparse_rank)
        return sum(1 / (self.k + rank) for rank in ranks if rank is not None)


@dataclass(frozen=True)
class Weighted:
    """The weighted sum of the dense and the lexical score, both as they are: BGE-M3's own hybrid score.

    The default ratio is that of FlagEmbedding's example for these two vectors.
    """

    dense: float = 0.4
    sparse: float = 0.2

    def __post_init__(self) -> None:
        _check_number("dense of Weighted", self.dense)
        _check_number("sparse of Weighted", self.sparse)
        # Written so that NaN, with which every comparison is false, is refused too.
        if not (0 <= self.dense < inf and 0 <= self.sparse < inf and self.dense + self.sparse > 0):
            raise ValueError(f"weights {self.dense} and {self.sparse}: must be finite, none negative, one positive")

    def score(self, candidate: Candidate) -> float:
        """Return the fused score of a candidate."""
        return self.dense * candidate.dense_score + self.sparse * candidate.sparse_score


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r:.60} ({type(value).__name__}): it must be a number")


def own_ranker(fusion_weights: tuple[float, float, float] | None) -> RRF | Weighted:
    """Return how a model's own two rankings are joined: by its fusion weights if it brings any, else by RRF."""
    if fusion_weights is None or max(fusion_weights[:2]) == 0:
        return RRF()
    return Weighted(*fusion_weights[:2])


def ranked(candidates: Mapping[str, Candidate], ranker: RRF | Weighted) -> list[tuple[str, float]]:
    """Return (id, fused score), best first; ties go to the higher dense score, then to the lower id."""
    scored = [(identifier, ranker.score(candidate)) for identifier, candidate in candidates.items()]
    return sorted(scored, key=lambda pair: (-pair[1], -candidates[pair[0]].dense_score, pair[0]))
