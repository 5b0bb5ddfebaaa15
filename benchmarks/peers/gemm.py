"""The rate at which this processor multiplies the encoder's matrices through oneDNN, by way of torch.

No peer but the yardstick of all of them. Two ways are tried, `torch.nn.functional.linear` and oneDNN with weights
packed beforehand, and the faster one counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from peers import Loaded

IMPORTS = ("torch",)
PACKAGES = ("torch",)
# Weights of this many layers are used by turns: more than a cache holds, as in the encoder.
LAYERS = 4


def load(settings: dict[str, Any]) -> Loaded:
    import torch

    torch.set_num_threads(settings["threads"])
    return Loaded(lambda texts: [], "fp32, bf16")


def rate(tokens: int, shapes: list[tuple[int, int]], precision: str, repeats: int) -> float:
    """Measure operations a second (a multiplication and an addition are two).

    Args:
        tokens: Rows of the left matrix.
        shapes: Outputs and inputs of each product of a layer.
        precision: "fp32" or "bf16".
        repeats: Passes over `LAYERS` layers for each way, after one to warm up; the median counts.
    """
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    inputs = {columns: torch.randn(tokens, columns).to(dtype) for _, columns in shapes}
    layers = [[torch.randn(rows, columns).to(dtype) for rows, columns in shapes] for _ in range(LAYERS)]

    def plain(weight: Any) -> Callable[[], object]:
        return lambda: torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    def packed(weight: Any) -> Callable[[], object]:
        x, ordered = inputs[weight.shape[1]], torch.ops.mkldnn._reorder_linear_weight(weight, tokens)
        return lambda: torch.ops.mkldnn._linear_pointwise(x, ordered, None, "none", [], "")

    operations = 2 * tokens * LAYERS * sum(rows * columns for rows, columns in shapes)
    best = 0.0
    with torch.inference_mode():
        for way in (plain, packed):
            products = [way(weight) for layer in layers for weight in layer]
            times = []
            for _ in range(repeats + 1):
                started = time.perf_counter()
                for product in products:
                    product()
                times.append(time.perf_counter() - started)
            best = max(best, operations / statistics.median(times[1:]))
    return best
