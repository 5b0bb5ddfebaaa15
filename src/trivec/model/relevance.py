"""How a cross-encoder's hidden states become scores: `out(tanh(dense(hidden state of <s>)))`, and the sigmoid of it.

In float32 always, whatever the encoder computes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Classifier


class RelevanceHead:
    """The classification head of one checkpoint, 4 MB at full size."""

    def __init__(self, classifier: Classifier) -> None:
        """Read the weights."""
        self._dense, self._dense_bias = classifier.dense.weight.float32(), classifier.dense.bias.float32()
        self._out, self._out_bias = classifier.out.weight.float32()[0], classifier.out.bias.float32()[0]

    def scores(self, hidden: npt.NDArray[np.float32]) -> list[float]:
        """Return a logit for each pair: above 0 where the passage rather answers the query.

        Args:
            hidden: (n, hidden), of each pair's `<s>`.
        """
        scores: list[float] = (np.tanh(hidden @ self._dense.T + self._dense_bias) @ self._out + self._out_bias).tolist()
        return scores


def sigmoid(scores: Sequence[float]) -> list[float]:
    """Return scores between 0 and 1 for logits."""
    each = np.array(scores, np.float64)
    # By tanh, which overflows nowhere.
    of_each: list[float] = (0.5 * (1 + np.tanh(0.5 * each))).tolist()
    return of_each
