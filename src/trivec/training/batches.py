"""One training batch of token ids, and what a trainer asks of a source of batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trivec.training.losses import LossSettings


@dataclass(frozen=True, repr=False)
class TokenBatch:
    """Queries with their passages, as token ids between `<s>` and `</s>`.

    Attributes:
        source: Where the batch comes from; the log names it.
        queries: Token ids of each query.
        passages: Token ids of the passages: the same number for each query, in the queries' order, the
            positive first.
        teacher_scores: For each query a teacher's scores of its passages, or None.
        loss: Loss settings of this batch, where they differ from the run's.
    """

    source: str
    queries: list[list[int]]
    passages: list[list[int]]
    teacher_scores: list[list[float]] | None = None
    loss: LossSettings | None = None

    def __repr__(self) -> str:
        sizes = f"{len(self.queries)} queries, {len(self.passages)} passages, {self.tokens:,} tokens"
        return f"TokenBatch({self.source!r}, {sizes})"

    @property
    def tokens(self) -> int:
        """Number of tokens, padding left out."""
        return sum(map(len, self.queries)) + sum(map(len, self.passages))


class BatchSource(Protocol):
    """Batches by number: the same step always gives the same batch, so a resumed run sees what it would have seen."""

    def batch(self, step: int) -> TokenBatch:
        """The batch of a step.

        Args:
            step: Number of the step, from 0.
        """
        ...
