"""Fusion weights: how much dense, sparse and multi-vector scores count in a model's `all` mode, and how to choose them.

They are a property of a model (the spread of its three scores differs), kept in its config.json as
`{"trivec": {"fusion_weights": [dense, sparse, multi-vector]}}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trivec.errors import CheckpointError, TrivecError
from trivec.search.exact import Float32, Rows, ScoredPairs
from trivec.support.part_files import cannot_write, replacing

FusionWeights = tuple[float, float, float]

_COARSE = 0.1
_FINE = 0.025


@dataclass(frozen=True)
class CandidateScores:
    """The three scores of the candidates of one data set: aligned arrays of length p.

    Attributes:
        query: Row numbers of the queries.
        document: Row numbers of the documents.
        dense: Inner products of the dense vectors.
        sparse: Inner products of the lexical weights.
        multi_vector: MaxSim; None where no mode needs it.
    """

    query: Rows
    document: Rows
    dense: Float32
    sparse: Float32
    multi_vector: Float32 | None

    def fused(self, weights: FusionWeights) -> ScoredPairs:
        """Every candidate with the weighted mean of its scores, unsorted.

        Raises:
            ValueError: The weights are not as `checked_weights` asks.
        """
        score = fuse((self.dense, self.sparse, self.multi_vector), weights)
        return ScoredPairs(self.query, self.document, score)


def fuse(scores: Sequence[Float32 | None], weights: FusionWeights) -> Float32:
    """Weighted mean of dense, sparse and multi-vector scores (M3 paper, arXiv 2402.03216, section 3.2).

    Args:
        scores: Three (p,) arrays; one of weight 0 may be None.
        weights: In the same order, at least 0; dense and sparse not both 0.

    Raises:
        ValueError: The weights are not as asked, or scores with a positive weight are missing.
    """
    checked = checked_weights(weights)
    total = np.float32(sum(checked))
    parts = []
    for score, weight in zip(scores, checked, strict=True):
        if weight > 0:
            if score is None:
                raise ValueError("scores with a positive weight are missing")
            parts.append(score * (np.float32(weight) / total))
    fused: Float32 = np.sum(parts, axis=0, dtype=np.float32)
    return fused


def checked_weights(weights: Sequence[float]) -> FusionWeights:
    """Make sure of three finite weights of at least 0, of which dense and sparse are not both 0.

    Raises:
        ValueError: They are not; the message shows them.
    """
    values = tuple(float(weight) for weight in weights)
    if len(values) != 3 or not all(math.isfinite(value) and value >= 0 for value in values) or sum(values[:2]) == 0:
        raise ValueError(
            "fusion weights must be three numbers of at least 0 (dense, sparse, multi-vector), not both first ones 0: "
            f"got {list(weights)}"
        )
    return (values[0], values[1], values[2])


def choose_weights(
    candidates: Sequence[CandidateScores], quality: Callable[[int, ScoredPairs], float]
) -> tuple[FusionWeights, float]:
    """Search the weights whose `all` ranking is best, by the mean of data sets' quality.

    The search walks a grid over the simplex of the three weights in steps of 0.1, then around the best point in steps
    of 0.025. It is done on scores divided by their standard deviation, so that it is as fine for a model whose sparse
    scores are ten times its dense ones. Of equally good points the most even one wins.

    Args:
        candidates: Of each development data set, all three scores.
        quality: Gets the number of a data set and its fused scores; greater is better.

    Returns:
        The weights, for the scores as they are, with sum 1; and the mean quality they reach.
    """
    deviations = np.array([_spread([getattr(one, name) for one in candidates]) for name in _NAMES])
    tried: dict[tuple[float, ...], float] = {}

    def reached(share: tuple[float, ...]) -> float:
        if share not in tried:
            weights = _unscaled(share, deviations)
            tried[share] = float(np.mean([quality(i, one.fused(weights)) for i, one in enumerate(candidates)]))
        return tried[share]

    def best_of(shares: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        return max(shares, key=lambda share: (round(reached(share), 9), -max(share), share))

    middle = best_of(_simplex(_COARSE))
    near = [share for share in _simplex(_FINE) if all(abs(a - b) < _COARSE for a, b in zip(share, middle, strict=True))]
    best = best_of([middle, *near])
    return _unscaled(best, deviations), tried[best]


def store_fusion_weights(folder: str | Path, weights: Sequence[float]) -> None:
    """Write fusion weights into the config.json of a model folder, leaving everything else in it as it is.

    Raises:
        ValueError: The weights are not as `checked_weights` asks.
        TrivecError: `folder` is no local model folder that may be written.
    """
    path = Path(folder) / "config.json"
    checked = checked_weights(weights)
    if not path.is_file():
        raise TrivecError(f"{folder} is no model folder: copy the model into one, to keep fusion weights in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.setdefault("trivec", {})["fusion_weights"] = list(checked)
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is not a config that fusion weights can be added to: {error}") from error
    try:
        with replacing(path) as part:
            part.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            part.chmod(path.stat().st_mode & 0o777)
    except OSError as error:
        raise cannot_write(path, error) from error


_NAMES = ("dense", "sparse", "multi_vector")


def _spread(scores: Sequence[Float32]) -> float:
    values: npt.NDArray[np.float64] = np.concatenate(scores).astype(np.float64)
    return float(values.std()) or 1.0


def _simplex(step: float) -> list[tuple[float, ...]]:
    n = round(1 / step)
    return [(a / n, b / n, (n - a - b) / n) for a in range(n + 1) for b in range(n + 1 - a) if a + b]


def _unscaled(share: tuple[float, ...], deviations: npt.NDArray[np.float64]) -> FusionWeights:
    weights = np.array(share) / deviations
    weights /= weights.sum()
    return checked_weights([float(f"{weight:.4g}") for weight in weights])
