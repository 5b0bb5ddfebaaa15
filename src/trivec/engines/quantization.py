"""int8 form of the encoder: 8-bit weights by output, activations quantized by token while the model runs.

Before its product, an activation x becomes (x - shift) / scale, channel by channel: the shift takes out what all tokens
have in common, the scale evens out channels that are always large, and both are undone exactly in the weights and the
bias. (Outlier Suppression+, arXiv 2304.09145; the scale is SmoothQuant's, arXiv 2211.10438, with alpha 1/2.) They cost
nothing while the model runs: layer norms have a multiplication and addition already, attention averages the values, so
theirs moves into the weights of the values, and only behind GELU is there one more multiplication and addition.

What channels look like is measured in float32 on the documents of the demo, 40 short texts in ten languages, one
layer at a time so that no more than a layer is in memory. Where int8 takes a layer's result too far off, products
of it are kept in bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.checkpoint.tensors import release_pages
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines.encoder_weights import (
    ATTENDED,
    INNER,
    OUTER,
    PRODUCTS,
    QKV,
    embedding_weights,
    exact_layer,
    to_bfloat16,
)
from trivec.engines.openvino.layer_probe import LayerProbe

Array = npt.NDArray[np.float32]
# Tokens of a text that measuring reads at most.
_LONGEST = 512
# The largest 8-bit number used: -128 is left out, so that the range is the same on both sides.
_LARGEST = 127
# A layer's result may be off by this share of its length; over 24 layers of random errors that adds up to 5 %, a
# cosine of 0.9988. What is kept in bfloat16 where it is more, in this order: first what goes into the exponentials.
_LARGEST_ERROR = 0.01
_KEEP_FIRST = (QKV, ATTENDED, OUTER, INNER)


@dataclass(frozen=True)
class Channels:
    """How the channels of an activation are moved before it is quantized: (x - shift) / scale, each (channels,)."""

    shift: Array
    scale: Array


def quantized_encoder_weights(
    checkpoint: Checkpoint, tokenizer: M3Tokenizer, properties: Mapping[str, Any], *, exact_activations: bool = False
) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the encoder's tensors for int8, layer after layer.

    Args:
        checkpoint: The opened model folder. What is done with is dropped from memory on the way.
        tokenizer: Its tokenizer.
        properties: OpenVINO's, for the runs that measure: its number of threads.
        exact_activations: Whether the engine rounds weights only: then what that alone costs decides what is kept.

    Yields:
        As `encoder_weights` does, but a product's `weight` is int8 with a `weight_scale` (out,), or bfloat16, and QKV,
        INNER and OUTER have an `input_weight` and `input_bias` (in,), by which to multiply and add before the product:
        the layer norm's output before its own weight and bias, or GELU's output.
    """
    yield from embedding_weights(checkpoint, halve=True)
    longest = min(_LONGEST, checkpoint.config.max_length)
    probe = LayerProbe(checkpoint, tokenizer.encode_batch(_texts(), longest).token_ids, properties)
    norm = "embeddings.LayerNorm"
    norm_weight, norm_bias = (checkpoint.encoder[f"{norm}.{part}"].float32() for part in ("weight", "bias"))
    for layer in range(checkpoint.config.num_layers):
        exact = exact_layer(checkpoint.encoder, layer)
        inputs = probe.next_layer({key: StoredTensor(values, "F32") for key, values in exact.items()})
        channels = {product: _channels(inputs[product], exact[f"{product}.weight"]) for product in PRODUCTS}
        moved = _moved_layer(exact, channels, norm_weight, norm_bias)
        rounded = _rounded_layer(moved, kept=())
        for number in range(1, len(_KEEP_FIRST) + 1):
            if probe.error(_widened(rounded) if exact_activations else rounded) <= _LARGEST_ERROR:
                break
            rounded = _rounded_layer(moved, kept=_KEEP_FIRST[:number])
        for key, tensor in rounded.items():
            yield f"encoder.layer.{layer}.{key}", tensor
        norm_weight, norm_bias = exact["output.LayerNorm.weight"], exact["output.LayerNorm.bias"]
        release_pages(checkpoint.encoder.values())


def _texts() -> list[str]:
    lines = (files("trivec") / "data" / "demo" / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def _channels(inputs: Array, weight: Array) -> Channels:
    """Choose shift and scale for a product's inputs (tokens, in) and weight (out, in)."""
    shift = inputs.mean(axis=0)
    # Channels that never move here get the smallest scale that does, so that nothing is divided by zero.
    spread = np.abs(inputs - shift).max(axis=0)
    spread = np.maximum(spread, max(float(spread.max()) * 1e-3, 1e-6))
    heaviest = np.abs(weight).max(axis=0)
    heaviest = np.maximum(heaviest, max(float(heaviest.max()) * 1e-3, 1e-6))
    return Channels(shift, np.sqrt(spread / heaviest).astype(np.float32))


def _moved_layer(
    exact: Mapping[str, Array], channels: Mapping[str, Channels], norm_weight: Array, norm_bias: Array
) -> dict[str, Array]:
    """Move the channels of one layer's products; `norm_weight` and `norm_bias` are those of the norm before it."""
    moved = {key: values.copy() for key, values in exact.items()}
    for product, channel in channels.items():
        moved[f"{product}.bias"] += moved[f"{product}.weight"] @ channel.shift
        moved[f"{product}.weight"] *= channel.scale
    # Each token's attention sums to 1, so moving the values moves what attention makes of them by as much.
    weight, bias, context = moved[f"{QKV}.weight"], moved[f"{QKV}.bias"], channels[ATTENDED]
    values = slice(2 * len(weight) // 3, None)
    weight[values] /= context.scale[:, None]
    bias[values] = (bias[values] - context.shift) / context.scale

    between = exact["attention.output.LayerNorm.weight"], exact["attention.output.LayerNorm.bias"]
    gelu = np.ones_like(channels[OUTER].scale), np.zeros_like(channels[OUTER].scale)
    for product, (by, plus) in ((QKV, (norm_weight, norm_bias)), (INNER, between), (OUTER, gelu)):
        moved[f"{product}.input_weight"] = by / channels[product].scale
        moved[f"{product}.input_bias"] = (plus - channels[product].shift) / channels[product].scale
    return moved


def _rounded_layer(moved: Mapping[str, Array], kept: Sequence[str]) -> dict[str, StoredTensor]:
    """Round the weights of one layer's products to int8, those of `kept` to bfloat16."""
    rounded = {key: StoredTensor(values, "F32") for key, values in moved.items()}
    for product in PRODUCTS:
        weight = moved[f"{product}.weight"]
        if product in kept:
            rounded[f"{product}.weight"] = to_bfloat16(weight)
        else:
            scale = np.maximum(np.abs(weight).max(axis=1), np.float32(1e-30)) / _LARGEST
            steps = np.rint(weight / scale[:, None]).astype(np.int8)
            rounded[f"{product}.weight"] = StoredTensor(steps, "I8")
            rounded[f"{product}.weight_scale"] = StoredTensor(scale, "F32")
    return rounded


def _widened(rounded: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The same numbers in float32, so that a layer is computed with rounded weights and exact activations."""
    widened = dict(rounded)
    for key, tensor in rounded.items():
        if tensor.dtype == "I8":
            widened[key] = StoredTensor(tensor.float32() * rounded[f"{key}_scale"].float32()[:, None], "F32")
    return widened
