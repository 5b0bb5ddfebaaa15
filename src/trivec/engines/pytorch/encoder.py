"""The XLM-RoBERTa encoder in torch over a packed batch: a flat matrix of tokens, no padding anywhere.

Weights go from the checkpoint's memory map to the device one tensor at a time, in the precision to compute in. Knows
shapes and formulas; nothing of heads, batches or memory limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.engines.pytorch.attention import Attention, plan_attention, prepare_attention
from trivec.engines.pytorch.devices import to_device

# T = tokens of the batch, H = hidden size, I = inner size, A = attention heads


@dataclass(frozen=True)
class PackedTexts:
    """The token ids of n texts one behind the other, on a device.

    Attributes:
        lengths: Tokens of each text, the longest first.
        token_ids: (T,) int32.
        position_ids: (T,) int32.
        boundaries: (n + 1,) int32: where each text begins, and T.
    """

    lengths: Sequence[int]
    token_ids: torch.Tensor
    position_ids: torch.Tensor
    boundaries: torch.Tensor

    @classmethod
    def pack(cls, token_ids: Sequence[npt.NDArray[np.int32]], pad_token_id: int, device: torch.device) -> PackedTexts:
        """Lay texts (longest first) one behind the other and copy them to the device in one piece."""
        lengths = [len(ids) for ids in token_ids]
        ids = np.concatenate(token_ids)
        boundaries = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        # RoBERTa counts positions over the ids that are not <pad>, even a <pad> spelled out inside a text.
        counted = ids != pad_token_id
        running = np.concatenate([[0], np.cumsum(counted)])
        positions = (running[1:] - np.repeat(running[boundaries[:-1]], lengths)) * counted + pad_token_id
        flat = torch.from_numpy(np.concatenate([ids, positions, boundaries], dtype=np.int32, casting="same_kind"))
        return cls(lengths, *to_device(flat, device).split([len(ids), len(ids), len(boundaries)]))


@dataclass(frozen=True)
class Projection:
    """`x @ weight.T + bias`."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Project (T, in) to (T, out)."""
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Norm:
    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        # torch takes mean and variance of half-precision input in float32.
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    query_key_value: Projection
    attention_output: Projection
    attention_norm: _Norm
    inner: Projection
    outer: Projection
    output_norm: _Norm

    def __call__(self, hidden: torch.Tensor, attention: Attention, num_heads: int) -> torch.Tensor:
        query, key, value = self.query_key_value(hidden).unflatten(1, (3, num_heads, -1)).unbind(1)  # (T, A, H/A)
        context = attention(query, key, value).flatten(1)  # (T, H)
        del query, key, value  # else they would stay while the inner state, the largest, is computed
        hidden = self.attention_norm(self.attention_output(context).add_(hidden))
        del context
        inner = functional.gelu(self.inner(hidden))  # (T, I)
        return self.output_norm(self.outer(inner).add_(hidden))


class PackedEncoder:
    """The encoder's weights on a device, and the pass through them."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Copy the weights to the device.

        Args:
            checkpoint: The opened model folder.
            device: Where to compute.
            dtype: What to compute in.
        """
        self._config, self._dtype = checkpoint.config, dtype
        self._head_size = checkpoint.config.hidden_size // checkpoint.config.num_heads
        prepare_attention(device, dtype, self._head_size)
        tensors = checkpoint.encoder
        table = from_stored(tensors["embeddings.word_embeddings.weight"])
        # On the CPU the table stays in the file: a batch reads a few megabytes of its gigabyte.
        self._words = table if device.type == "cpu" else table.to(device, dtype)
        positions = from_stored(tensors["embeddings.position_embeddings.weight"])
        # Every token is of type 0, so the type's one row may as well be added to every position.
        token_type = from_stored(tensors["embeddings.token_type_embeddings.weight"])[0]
        self._positions = positions.float().add(token_type).to(device)

        def projection(*names: str) -> Projection:
            weights = [from_stored(tensors[f"{name}.weight"]) for name in names]
            biases = [from_stored(tensors[f"{name}.bias"]) for name in names]
            return Projection(*(_joined(parts).to(device, dtype) for parts in (weights, biases)))

        def norm(name: str, of: torch.dtype = dtype) -> _Norm:
            weight, bias = (from_stored(tensors[f"{name}.{part}"]).to(device, of) for part in ("weight", "bias"))
            return _Norm(weight, bias, checkpoint.config.layer_norm_eps)

        self._embedding_norm = norm("embeddings.LayerNorm", torch.float32)
        self._layers = [
            _Layer(
                # One product for query, key and value: fewer and larger calls.
                projection(*(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))),
                projection(f"{name}.attention.output.dense"),
                norm(f"{name}.attention.output.LayerNorm"),
                projection(f"{name}.intermediate.dense"),
                projection(f"{name}.output.dense"),
                norm(f"{name}.output.LayerNorm"),
            )
            for name in (f"encoder.layer.{number}" for number in range(checkpoint.config.num_layers))
        ]

    def __call__(self, texts: PackedTexts) -> torch.Tensor:
        """Compute the last hidden state of every token: (T, H), in the encoder's precision."""
        num_heads = self._config.num_heads
        attention = plan_attention(texts.lengths, texts.boundaries, self._dtype, self._head_size)
        hidden = self._embedded(texts)
        for layer in self._layers:
            hidden = layer(hidden, attention, num_heads)
        return hidden

    def _embedded(self, texts: PackedTexts) -> torch.Tensor:
        # On the CPU the table is as it was saved: rounded as a GPU has it, so that the CPU tests what a GPU computes.
        words = functional.embedding(texts.token_ids, self._words).to(self._dtype)
        embedded = words.float().add_(functional.embedding(texts.position_ids, self._positions))
        return self._embedding_norm(embedded).to(self._dtype)


def from_stored(tensor: StoredTensor) -> torch.Tensor:
    """View a stored tensor as torch's, in the precision it was saved in, without a copy."""
    view = torch.from_numpy(tensor.data)
    return view.view(torch.bfloat16) if tensor.dtype == "BF16" else view


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
