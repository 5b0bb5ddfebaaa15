"""What bounds everybody: the operations of the encoder, and the rate at which the processor multiplies in that minute.

A text of S tokens costs, per layer of hidden size H and inner size I, the products of its S rows with 4 H x H + 2 H x I
weights and the two products of attention, 4 S^2 H. At full size that is 604 million operations a token, and little
more for texts of a few hundred tokens. Rates of large matrix products swing from minute to minute on shared machines,
so the roof is measured in every round, between the peers' turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from peers import PEERS, Peer
from processes import PeerError, Worker

_YARDSTICK = Peer("gemm", "reference", {}, None)


def operations(lengths: Sequence[int], config: dict[str, Any]) -> float:
    """Multiplications and additions that texts of these lengths need, padding left out."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    of_layer = sum(2 * n * (4 * hidden**2 + 2 * hidden * inner) + 4 * n**2 * hidden for n in lengths)
    return float(config["num_hidden_layers"] * of_layer)


class Roof:
    """Measures the processor, in a process of its own.

    Attributes:
        unavailable: Why it cannot, or None.
        rates: Operations a second, a value a round, by number of tokens and precision.
    """

    def __init__(self, config: dict[str, Any], settings: dict[str, Any]) -> None:
        self.unavailable: str | None = None
        self.rates: dict[tuple[int, str], list[float]] = {}
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self._shapes = [(3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner)]
        try:
            self._worker = Worker("roof", _YARDSTICK, settings)
        except PeerError as error:
            self.unavailable = str(error)

    def measure(self, tokens: int, repeats: int = 3) -> None:
        """Measure both precisions with this many rows on the left."""
        if self.unavailable is not None:
            return
        for precision in ("fp32", "bf16"):
            request = {"tokens": tokens, "shapes": self._shapes, "precision": precision, "repeats": repeats}
            try:
                rate = self._worker.ask("gemm", **request)["rate"]
            except PeerError as error:
                self.unavailable = str(error)
                return
            self.rates.setdefault((tokens, precision), []).append(rate)

    def share(self, name: str, tokens: int, rates: Sequence[float], precision: str) -> float | None:
        """Median over the rounds of a peer's operations a second over the roof of its precision, where one is known."""
        of = "fp32" if precision == "fp32" else PEERS[name].roof
        roofs = self.rates.get((tokens, of)) if of else None
        if not roofs:
            return None
        return statistics.median(rate / roof for rate, roof in zip(rates, roofs, strict=False))

    def as_json(self) -> dict[str, Any]:
        """Rates in 10^9 operations a second, for the report."""
        rates = {f"{precision}, {tokens} tokens": values for (tokens, precision), values in self.rates.items()}
        return {
            "unavailable": self.unavailable,
            "gigaops": {key: {"rounds": v, "median": statistics.median(v)} for key, v in _scaled(rates).items()},
        }

    def close(self) -> None:
        """Stop the process."""
        if self.unavailable is None:
            self._worker.close()


def _scaled(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    return {key: [value / 1e9 for value in values] for key, values in rates.items()}
