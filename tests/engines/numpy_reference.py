"""BGE-M3 in NumPy and float64, a text at a time, as its papers write it: what every engine is held against."""

from __future__ import annotations

import math

import numpy as np

from trivec.checkpoint import Checkpoint

Array = np.ndarray
_erf = np.vectorize(math.erf)


def hidden_states(checkpoint: Checkpoint, token_ids: Array) -> Array:
    """XLM-RoBERTa's last hidden states of one text, (tokens, hidden)."""
    weights = {name: tensor.float32().astype(np.float64) for name, tensor in checkpoint.encoder.items()}
    config = checkpoint.config

    def linear(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + config.layer_norm_eps)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: Array) -> Array:
        return x.reshape(len(x), config.num_heads, -1).transpose(1, 0, 2)

    counted = token_ids != config.pad_token_id  # RoBERTa's rule, also for a <pad> within a text
    positions = np.cumsum(counted) * counted + config.pad_token_id
    state = weights["embeddings.word_embeddings.weight"][token_ids]
    state = state + weights["embeddings.position_embeddings.weight"][positions]
    state = norm(state + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(config.num_layers):
        at = f"encoder.layer.{layer}"
        query, key, value = (heads(linear(state, f"{at}.attention.self.{name}")) for name in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        attended = (shares @ value).transpose(1, 0, 2).reshape(state.shape)
        attention = linear(attended, f"{at}.attention.output.dense")
        state = norm(state + attention, f"{at}.attention.output.LayerNorm")
        inner = linear(state, f"{at}.intermediate.dense")
        inner = inner * (1 + _erf(inner / math.sqrt(2))) / 2  # GELU
        state = norm(state + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return state


def vectors(
    checkpoint: Checkpoint, token_ids: Array, unused_ids: list[int], normalize: bool, mcls: int | None = None
) -> tuple[Array, dict, Array]:
    """Dense vector (hidden,), lexical weights by token id, token vectors (tokens - 1, size) of one text.

    With `mcls`, a `<s>` stands before every so many tokens: the dense vector is their mean, none has a token vector.
    """
    is_cls = np.zeros(len(token_ids), bool)
    is_cls[[0] if mcls is None else range(0, max(1, len(token_ids) - 1), mcls + 1)] = True
    state = hidden_states(checkpoint, token_ids)
    of_sparse, of_colbert = checkpoint.sparse_linear, checkpoint.colbert_linear
    raw = state @ of_sparse.weight.float32().astype(np.float64).T + of_sparse.bias.float32()
    lexical: dict[int, float] = {}
    for token_id, weight in zip(token_ids.tolist(), np.maximum(raw[:, 0], 0).tolist(), strict=True):
        if token_id not in unused_ids and weight > lexical.get(token_id, 0.0):
            lexical[token_id] = weight
    token_vectors = state[~is_cls] @ of_colbert.weight.float32().astype(np.float64).T + of_colbert.bias.float32()
    dense = state[is_cls].mean(axis=0)
    if normalize:
        dense = dense / np.linalg.norm(dense)
        token_vectors = token_vectors / np.linalg.norm(token_vectors, axis=-1, keepdims=True)
    return dense, lexical, token_vectors
