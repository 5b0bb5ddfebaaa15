"""The plain way to encode, for peers that are only a graph: sort by length, pad in batches of 16, pool in Python.

It is what FlagEmbedding does around its model, without its probe of the first batch. Knows no runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

BATCH_SIZE = 16
PAD_ID = 1
UNUSED_IDS = frozenset({0, 1, 2, 3})
# (B, S) int64 token ids and attention mask -> dense vectors (B, dim) and a lexical weight a token (B, S)
Run = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def encoder(run: Run, settings: dict[str, Any]) -> Callable[[Sequence[str]], Any]:
    """Wrap a graph into a function from texts to dense vectors; the sparse ones are computed on the way."""
    tokenizer = Tokenizer.from_file(str(Path(settings["checkpoint"]) / "tokenizer.json"))
    tokenizer.enable_truncation(settings["max_length"])
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> Any:
        token_ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(token_ids)), key=lambda i: -len(token_ids[i]))
        dense: list[Any] = [None] * len(token_ids)
        lexical_weights: list[Any] = [None] * len(token_ids)
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            ids = np.full((len(batch), len(token_ids[batch[0]])), PAD_ID, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, : len(token_ids[i])] = token_ids[i]
                mask[row, : len(token_ids[i])] = 1
            vectors, weights = run(ids, mask)
            for row, i in enumerate(batch):
                dense[i] = vectors[row]
                lexical_weights[i] = _pooled(token_ids[i], weights[row].tolist())
        return dense

    return encode


def _pooled(token_ids: list[int], weights: list[float]) -> dict[int, float]:
    """The largest weight of each token id that has a positive one."""
    pooled: dict[int, float] = {}
    for token_id, weight in zip(token_ids, weights, strict=False):
        if weight > pooled.get(token_id, 0.0) and token_id not in UNUSED_IDS:
            pooled[token_id] = weight
    return pooled
