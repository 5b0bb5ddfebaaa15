"""Hybrid search's ranking: one list of ids from a dense and a sparse one.

The two lists are combined here and not by Milvus, whose weighted ranker normalises scores differently on Milvus Lite
(minimum to maximum of the list) and on a server, so that one query would rank differently on the two. Fusing here also
keeps both scores of every hit.

How much dense, sparse and multi-vector scores count in their weighted mean is a property of a model, as the spread of
its three scores differs; `choose_weights` finds what suits given data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from trivec.support.arguments import checked_weights
from trivec.vectors.embeddings import FloatArray
from trivec.vectors.scoring import weighted_mean

FusionWeights = tuple[float, float, float]
"""Of dense, sparse and multi-vector scores."""

# Steps between the mixtures that `choose_weights` tries: first everywhere, then around the best.
_COARSE, _FINE = 0.1, 0.025


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
        checked_weights((self.dense, self.sparse), ("dense", "sparse"))

    def score(self, candidate: Candidate) -> float:
        """Return the fused score of a candidate."""
        return self.dense * candidate.dense_score + self.sparse * candidate.sparse_score


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r:.60} ({type(value).__name__}): it must be a number")


def own_ranker(fusion_weights: FusionWeights | None) -> RRF | Weighted:
    """Return how a model's own two rankings are joined: by its fusion weights if it brings any, else by RRF."""
    if fusion_weights is None or max(fusion_weights[:2]) == 0:
        return RRF()
    return Weighted(*fusion_weights[:2])


def ranked(candidates: Mapping[str, Candidate], ranker: RRF | Weighted) -> list[tuple[str, float]]:
    """Return (id, fused score), best first; ties go to the higher dense score, then to the lower id."""
    scored = [(identifier, ranker.score(candidate)) for identifier, candidate in candidates.items()]
    return sorted(scored, key=lambda pair: (-pair[1], -candidates[pair[0]].dense_score, pair[0]))


def choose_weights(
    candidates: Sequence[tuple[FloatArray, FloatArray, FloatArray]], quality: Callable[[list[FloatArray]], float]
) -> tuple[FusionWeights, float]:
    """Search the weights whose weighted mean of the three scores ranks best.

    The search walks a grid over the simplex of the three weights in steps of 0.1, then around the best point in steps
    of 0.025; dense and sparse are never both 0. It is done on scores divided by their standard deviation, so that it is
    as fine for a model whose sparse scores are ten times its dense ones. Of equally good points the most even one wins.

    Args:
        candidates: Of each development data set, dense, sparse and multi-vector scores: three arrays of one shape.
        quality: Gets the weighted means of each data set, in the shape of its scores; greater is better.

    Returns:
        The weights, for the scores as they are, with sum 1; and the quality they reach.
    """
    deviations = np.array([_spread(of_one_kind) for of_one_kind in zip(*candidates, strict=True)])
    tried: dict[tuple[float, ...], float] = {}

    def reached(share: tuple[float, ...]) -> float:
        if share not in tried:
            weights = _unscaled(share, deviations)
            tried[share] = quality([weighted_mean(scores, weights) for scores in candidates])
        return tried[share]

    def best_of(shares: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        return max(shares, key=lambda share: (round(reached(share), 9), -max(share), share))

    middle = best_of(_simplex(_COARSE))
    near = [share for share in _simplex(_FINE) if all(abs(a - b) < _COARSE for a, b in zip(share, middle, strict=True))]
    best = best_of([middle, *near])
    return _unscaled(best, deviations), tried[best]


def _spread(scores: Sequence[FloatArray]) -> float:
    return float(np.concatenate([one.ravel() for one in scores]).std(dtype=np.float64)) or 1.0


def _simplex(step: float) -> list[tuple[float, ...]]:
    n = round(1 / step)
    return [(a / n, b / n, (n - a - b) / n) for a in range(n + 1) for b in range(n + 1 - a) if a + b]


def _unscaled(share: tuple[float, ...], deviations: npt.NDArray[np.float64]) -> FusionWeights:
    weights = np.array(share) / deviations
    dense, sparse, multi_vector = (float(f"{weight:.4g}") for weight in weights / weights.sum())
    return dense, sparse, multi_vector
