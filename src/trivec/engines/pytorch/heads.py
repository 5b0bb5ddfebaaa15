"""BGE-M3's three heads in torch, and lexical weights pooled per token id, on the device the hidden states are on.

Everything here is queued without waiting for the device: results have sizes known beforehand, and what is not to be
kept of them is marked, not cut off. (M3-Embedding, arXiv 2402.03216, section 3.2.) Knows nothing of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from trivec.checkpoint import Checkpoint, Linear
from trivec.engines import Heads
from trivec.engines.mcls import cls_places
from trivec.engines.pytorch.encoder import PackedTexts, Projection, from_stored
from trivec.vectors.sparse import SparseMatrix

# T = tokens of the batch, H = hidden size, D = token vector size, n = texts


@dataclass(frozen=True)
class HeadOutputs:
    """What the heads gave, None for one that was not asked for; on the device, or copied from it.

    Attributes:
        dense: (n, H) float32.
        cells: (T,) int64, sorted: text x vocabulary size + token id, of each token. None where the host is to pool.
        weights: (T,) float32: at the first of a run of equal cells the largest weight in it, elsewhere 0. Without
            cells: the weight of each token, as the texts lie in the batch.
        vectors: (T, D) float32, one for every token, `<s>` too.
        finite: Whether every number above is finite, a bool scalar.
    """

    dense: torch.Tensor | None
    cells: torch.Tensor | None
    weights: torch.Tensor | None
    vectors: torch.Tensor | None
    finite: torch.Tensor


class TorchHeads:
    """The heads' weights on a device; they compute in float32 always, being the last step to the user."""

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, vocabulary_size: int, unused_ids: Sequence[int]
    ) -> None:
        """Copy the weights to the device.

        Args:
            checkpoint: The opened model folder.
            device: Where to compute.
            vocabulary_size: Columns of a sparse vector.
            unused_ids: Token ids without a lexical weight.
        """
        self._sparse = _projection(checkpoint.sparse_linear, device)
        self._colbert = _projection(checkpoint.colbert_linear, device)
        self._vocabulary_size = vocabulary_size
        self._pools = device.type != "mps"  # where sorting int64 has gone wrong
        self._unused_ids = torch.tensor(unused_ids, dtype=torch.int32, device=device)

    def __call__(self, hidden: torch.Tensor, texts: PackedTexts, heads: Heads) -> HeadOutputs:
        """Compute the heads asked for from the last hidden states, (T, H)."""
        dense = cells = weights = vectors = None
        starts = texts.boundaries[:-1]
        if heads.dense:
            dense = _mean_of_cls(hidden, texts, heads.mcls) if heads.mcls else hidden.index_select(0, starts).float()
        if (heads.sparse and self._sparse) or (heads.colbert and self._colbert):
            hidden = hidden.float()
        if heads.sparse and self._sparse:
            weights = self._sparse(hidden).squeeze(1).relu_()
            if self._pools:
                cells, weights = self._pooled(weights, texts)
        if heads.colbert and self._colbert:
            vectors = self._colbert(hidden)
        if heads.normalize:
            # Divided by max(length, 1e-12), as the reference does; in place, for token vectors are large.
            for unscaled in (dense, vectors):
                if unscaled is not None:
                    functional.normalize(unscaled, dim=-1, out=unscaled)
        finite = [values.isfinite().all() for values in (dense, weights, vectors) if values is not None]
        return HeadOutputs(dense, cells, weights, vectors, torch.stack(finite).all())

    def _pooled(self, weights: torch.Tensor, texts: PackedTexts) -> tuple[torch.Tensor, torch.Tensor]:
        """Sort tokens by text and id, and take the largest weight of each run. The rule is `pool_lexical_weights`'."""
        weights.masked_fill_(torch.isin(texts.token_ids, self._unused_ids), 0)
        tokens = torch.arange(len(weights), dtype=torch.int32, device=weights.device)
        text = torch.searchsorted(texts.boundaries, tokens, right=True) - 1
        cells, order = (text * self._vocabulary_size + texts.token_ids).sort()
        run_starts = torch.ones_like(cells, dtype=torch.bool)
        run_starts[1:] = cells[1:] != cells[:-1]
        run = run_starts.cumsum(0) - 1
        largest = torch.zeros_like(weights).scatter_reduce_(0, run, weights.gather(0, order), "amax")
        return cells, largest.gather(0, run) * run_starts


def _mean_of_cls(hidden: torch.Tensor, texts: PackedTexts, every: int) -> torch.Tensor:
    """Mean of the hidden states of every `<s>` of each text, (n, H) float32."""
    places = [cls_places(length, every) for length in texts.lengths]
    starts = np.cumsum(texts.lengths) - texts.lengths
    rows = np.concatenate([start + of_text for start, of_text in zip(starts, places, strict=True)])
    counts = np.array([len(of_text) for of_text in places])
    text = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(hidden.device)
    chosen = hidden.index_select(0, torch.from_numpy(rows).to(hidden.device)).float()
    sums = chosen.new_zeros(len(counts), hidden.shape[1]).index_add_(0, text, chosen)
    return sums / torch.from_numpy(counts).to(hidden.device, torch.float32)[:, None]


def sparse_rows(cells: np.ndarray, weights: np.ndarray, texts: int, vocabulary_size: int) -> SparseMatrix:
    """Make a matrix of (texts, vocabulary_size) out of `HeadOutputs.cells` and `weights`, copied to the host."""
    kept = np.flatnonzero(weights)
    rows, columns = np.divmod(cells[kept], vocabulary_size)
    indptr = np.zeros(texts + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=texts), out=indptr[1:])
    return SparseMatrix((weights[kept], columns.astype(np.int32), indptr), shape=(texts, vocabulary_size))


def _projection(head: Linear | None, device: torch.device) -> Projection | None:
    if head is None:
        return None
    return Projection(*(from_stored(tensor).to(device, torch.float32) for tensor in (head.weight, head.bias)))
