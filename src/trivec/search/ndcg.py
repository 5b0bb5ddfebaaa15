"""nDCG@10 of matrices of scores, for choosing among models and weights.

`trivec.evaluation` leaves what it reports to trec_eval, by way of an extra that training does without; it also wants
graded judgements, and rankings by id. A test holds the two together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ndcg_at_10(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Mean nDCG@10 with right passages of gain 1; of equal scores a right passage's counts as the lowest.

    Args:
        scores: (queries, passages).
        right: (queries, passages), true where a passage answers a query; at least one for each query.

    Returns:
        Between 0 and 1.
    """
    rows, columns = np.nonzero(right)
    rank = (~(scores[rows] < scores[rows, columns][:, None])).sum(1)  # so that NaN is no first place either
    gain = np.bincount(rows, np.where(rank <= 10, 1 / np.log2(1 + rank), 0), minlength=len(right))
    ideal = np.cumsum(1 / np.log2(np.arange(2, 12)))[np.minimum(right.sum(1), 10) - 1]
    return float((gain / ideal).mean())
