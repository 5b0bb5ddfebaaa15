"""Self-attention within each text of a packed batch, in which texts lie one behind the other without padding.

Two ways that agree: torch's variable-length flash attention where the GPU and the precision allow it, and
`scaled_dot_product_attention` over groups of texts of like length everywhere else. Knows lengths and head sizes,
nothing of weights or layers: how to attend is planned once a batch, and the plan serves every layer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from torch.nn import functional

from trivec.engines.batching import plan_batches
from trivec.engines.pytorch.devices import is_ampere, to_device

# T = tokens of the batch, A = attention heads, D = size of one; n texts in a group, S tokens of its longest
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Query, key and value, (T, A, D) each, to the context (T, A, D)."""


def prepare_attention(device: torch.device, dtype: torch.dtype, head_size: int) -> None:
    """Import the kernel that `plan_attention` will choose: a second that the first query need not wait for."""
    if has_variable_length_attention(device, dtype, head_size):
        import_module("torch.nn.attention.varlen")


def plan_attention(lengths: Sequence[int], boundaries: torch.Tensor, dtype: torch.dtype, head_size: int) -> Attention:
    """Choose how the texts of a batch attend to themselves.

    Args:
        lengths: Tokens of each text, the longest first, as they lie in the batch.
        boundaries: (texts + 1,) int32 on the device of the batch: where each text begins, and T.
        dtype: Of query, key and value.
        head_size: D.
    """
    device = boundaries.device
    # For a single text too: the plain product may go to cuDNN, which plans anew for every shape, and that takes longer.
    if has_variable_length_attention(device, dtype, head_size):
        return variable_length_attention(lengths, boundaries)
    return attention_in_groups(lengths, device)


@cache
def has_variable_length_attention(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether torch's variable-length attention runs: NVIDIA's Ampere or later, 16 bits, torch 2.10 built with it."""
    return (
        is_ampere(device)
        and dtype in {torch.float16, torch.bfloat16}
        and head_size % 8 == 0
        and head_size <= 256
        and torch.version.cuda is not None
        and torch.backends.cuda.is_flash_attention_available()
        and find_spec("torch.nn.attention.varlen") is not None
    )


def variable_length_attention(lengths: Sequence[int], boundaries: torch.Tensor) -> Attention:
    """Attention by one call of torch's flash attention kernel, which is told where texts begin."""
    from torch.nn.attention.varlen import varlen_attn

    longest = max(lengths)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return varlen_attn(query, key, value, boundaries, boundaries, longest, longest)

    return attend


def attention_in_groups(lengths: Sequence[int], device: torch.device) -> Attention:
    """Attention by one `scaled_dot_product_attention` a group of neighbours of like length, padded and masked.

    A text's padding repeats its last token, so that every number stays finite, and is masked as a key.
    """
    counts = np.array(lengths)
    starts = np.concatenate([[0], np.cumsum(counts)])
    groups = []
    # The texts come longest first, so what the plan puts together are neighbours.
    for texts in plan_batches(counts, max_batch_tokens=sys.maxsize):
        first, last = int(texts[0]), int(texts[-1])
        groups.append(_group(counts[first : last + 1], int(starts[first]), int(starts[last + 1]), device))

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        contexts = [group(query, key, value) for group in groups]
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts)

    return attend


def _group(lengths: np.ndarray, start: int, end: int, device: torch.device) -> Attention:
    n, longest = len(lengths), int(lengths.max())

    def by_text(packed: torch.Tensor) -> torch.Tensor:
        parts = packed.unflatten(0, (n, longest)).transpose(1, 2)  # (n, A, S, D)
        return parts.contiguous() if device.type == "mps" else parts  # transposed ones have been read wrongly there

    if int(lengths.min()) == longest:

        def attend_equal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            parts = (by_text(packed[start:end]) for packed in (query, key, value))
            return functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(0, 1)

        return attend_equal

    column = np.arange(longest)
    real = column < lengths[:, None]  # (n, S)
    first = np.cumsum(lengths) - lengths
    padded = start + first[:, None] + np.minimum(column, lengths[:, None] - 1)
    rows = to_device(torch.from_numpy(padded.ravel()), device)
    back = to_device(torch.from_numpy(np.flatnonzero(real)), device)
    mask = to_device(torch.from_numpy(real), device)[:, None, None, :]

    def attend_padded(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        parts = (by_text(packed.index_select(0, rows)) for packed in (query, key, value))
        context = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        return context.transpose(1, 2).flatten(0, 1).index_select(0, back)

    return attend_padded
