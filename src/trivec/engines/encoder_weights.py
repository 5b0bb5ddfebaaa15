"""The encoder's tensors in the form in which the graph computes with them, by precision.

"fp32" takes them as they are stored, "bf16" rounds the weights of the products, "int8" is `quantization`'s work. In all
of them query, key and value become one product, and norms, biases and positions are handed on in float32. Knows
nothing about files, graphs' insides or texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.checkpoint.tensors import release_pages

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
# What is looked up or added once for the whole encoder; the rest of `embeddings.` is the word table.
_EMBEDDING_PARTS = (
    POSITIONS,
    TYPES,
    "embeddings.LayerNorm.weight",
    "embeddings.LayerNorm.bias",
)
# Of the word table, rounded at a time: at full size it is a gigabyte.
_ROWS = 16_384
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
# The four matrix products of a layer.
QKV, ATTENDED, INNER, OUTER = "attention.self.qkv", "attention.output.dense", "intermediate.dense", "output.dense"
PRODUCTS = (QKV, ATTENDED, INNER, OUTER)
PRODUCT_WEIGHTS = {f"{product}.weight" for product in PRODUCTS}


def exact_layer(tensors: Mapping[str, StoredTensor], layer: int) -> dict[str, npt.NDArray[np.float32]]:
    """One layer's tensors, query, key and value joined: weights (out, in), biases (out,), norms (hidden,).

    Returns:
        Them by their names within the layer, such as `output.dense.weight`.
    """
    name = f"encoder.layer.{layer}."
    exact = {}
    for part in ("weight", "bias"):
        joined = [tensors[f"{name}attention.self.{which}.{part}"].float32() for which in ("query", "key", "value")]
        exact[f"{QKV}.{part}"] = np.concatenate(joined)
        for other in (ATTENDED, INNER, OUTER, *_NORMS):
            exact[f"{other}.{part}"] = tensors[f"{name}{other}.{part}"].float32()
    return exact


def encoder_weights(checkpoint: Checkpoint, precision: str) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the encoder's tensors by name, layer after layer.

    Args:
        checkpoint: The opened model folder. What is done with is dropped from memory on the way.
        precision: "fp32" or "bf16".

    Yields:
        The names of the checkpoint, but `attention.self.qkv` for query, key and value.
    """
    yield from embedding_weights(checkpoint, halve=precision != "fp32")
    for layer in range(checkpoint.config.num_layers):
        for name, values in exact_layer(checkpoint.encoder, layer).items():
            rounded = precision == "bf16" and name in PRODUCT_WEIGHTS
            yield f"encoder.layer.{layer}.{name}", to_bfloat16(values) if rounded else StoredTensor(values, "F32")
        if precision != "fp32":  # otherwise they are about to be read again
            release_pages(checkpoint.encoder.values())


def embedding_weights(checkpoint: Checkpoint, *, halve: bool) -> Iterator[tuple[str, StoredTensor]]:
    """Yield the embedding tables and their norm; with `halve`, float32 words in float16.

    float16 keeps 11 bits of each number above 6e-5, eight times finer than the bfloat16 or int8 that words go into.
    """
    words = checkpoint.encoder[WORD_EMBEDDINGS]
    yield WORD_EMBEDDINGS, _in_half(words) if halve else words
    for name in _EMBEDDING_PARTS:
        yield name, StoredTensor(checkpoint.encoder[name].float32(), "F32")


def to_bfloat16(values: npt.NDArray[np.float32]) -> StoredTensor:
    """Round to bfloat16, half to even; NaN stays NaN. The result is contiguous, as OpenVINO shares nothing else."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)
    return StoredTensor(np.where(np.isnan(values), np.uint16(0x7FC0), rounded), "BF16")


def _in_half(words: StoredTensor) -> StoredTensor:
    if words.dtype != "F32":
        return words
    halved = np.empty(words.shape, np.float16)
    for start in range(0, len(halved), _ROWS):
        with np.errstate(over="ignore"):
            halved[start : start + _ROWS] = words.data[start : start + _ROWS]
        if not np.isfinite(halved[start : start + _ROWS]).all():
            return words
        release_pages([words])
    return StoredTensor(halved, "F16")
