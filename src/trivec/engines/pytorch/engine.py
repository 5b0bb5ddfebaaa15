"""The torch engine: packed batches, one behind the other, on one GPU (or, on request, the CPU).

While a batch is computed, the vectors of the one before are copied to the host beside it and made into results. Owns
the weights on its device and decides how many tokens go into a batch; knows nothing about text, and nothing about what
happens inside the encoder and the heads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from trivec.checkpoint import Checkpoint
from trivec.checkpoint.tensors import release_pages
from trivec.engines import EncodedBatch, Heads
from trivec.engines.mcls import without_cls
from trivec.engines.pytorch.devices import DTYPES, exact_float32, is_shortage
from trivec.engines.pytorch.encoder import PackedEncoder, PackedTexts
from trivec.engines.pytorch.heads import HeadOutputs, TorchHeads, sparse_rows
from trivec.errors import DeviceError, TrivecError
from trivec.vectors.sparse import pool_lexical_weights

# A GPU is busy with the smaller number of tokens at a time and gains nothing from more than the larger one. Between
# the two, a window makes four batches, so that most copying happens beside the computing.
_LEAST_GPU_TOKENS, _MOST_GPU_TOKENS = 8_192, 32_768
# Everywhere else.
_MOST_TOKENS = 4_096
# Of a GPU's free memory, the share that one batch may take by the estimate; the rest is for what it leaves out.
_MEMORY_SHARE = 0.7
# So few, some queries say, that asking for the free memory would take longer than it is worth.
_FEW_TOKENS = 1_024


def tokens_a_batch(total: int, asked: int | None, fitting: int) -> int:
    """Most tokens that a GPU computes at once.

    Args:
        total: Tokens of the window.
        asked: At most, as the user wants it; None: as many as a GPU does well with.
        fitting: For how many there is memory.
    """
    return min(asked or min(_MOST_GPU_TOKENS, max(_LEAST_GPU_TOKENS, total // 4)), fitting)


def page_locked_like(tensor: torch.Tensor) -> torch.Tensor:
    """Memory of the host that a GPU copies to by itself, for a tensor; wherever the program has tensors put."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)


@dataclass(frozen=True)
class _Launched:
    """A batch that the device has been told to compute.

    Attributes:
        indices: Which texts of the window it holds.
        token_ids: Of each of them.
        lengths: Their lengths in tokens.
        mcls: As of `Heads`.
        outputs: On the host once `copied` has happened.
        copied: None on devices that compute at once.
    """

    indices: npt.NDArray[np.intp]
    token_ids: Sequence[npt.NDArray[np.int32]]
    lengths: Sequence[int]
    mcls: int | None
    outputs: HeadOutputs
    copied: torch.cuda.Event | None


class TorchEngine:
    """Encodes on one device; safe to call from several threads, whose batches take turns."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        precision: str,
        vocabulary_size: int,
        unused_ids: Sequence[int],
    ) -> None:
        """Copy the weights to the device.

        Args:
            checkpoint: The opened model folder.
            device: "cuda:n", "mps" or "cpu", one that is there.
            precision: Out of `DTYPES`, one that the device computes in.
            vocabulary_size: Columns of a sparse vector.
            unused_ids: Token ids without a lexical weight.

        Raises:
            DeviceError: The device has no memory for the weights.
        """
        self._device = torch.device(device)
        self.precision = precision
        self.batch_tokens = _LEAST_GPU_TOKENS if torch.device(device).type == "cuda" else _MOST_TOKENS
        self._checkpoint = checkpoint
        self._vocabulary_size = vocabulary_size
        self._unused_ids = unused_ids
        self._lock = threading.Lock()
        # Lowered when memory runs out, for as long as the engine lives: what did not fit once is not tried again.
        self._token_limit: int | None = None
        self._copies: torch.cuda.Stream | None = None
        self._encoder: PackedEncoder | None = None
        self._heads: TorchHeads | None = None
        if not self._load():
            # Not within an `except`, nor from its error: either would keep the half-loaded weights in a traceback.
            self.close()
            raise DeviceError(
                f"the model's weights in {self.precision} do not fit into the memory of {self._memory()}: "
                "free some, or take another device"
            )

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, max_batch_tokens: int | None
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts, the longest first; see `Engine.encode`.

        When memory runs out, batches are halved from there on; no text is lost, and none whose vectors are there is
        computed again.

        Raises:
            DeviceError: A text does not fit into the device's memory even by itself.
            TrivecError: The engine is closed, or the weights give vectors that are not finite.
        """
        lengths = np.array([len(ids) for ids in token_ids])
        order = np.argsort(-lengths, kind="stable")
        budget = self._token_budget(heads, max_batch_tokens, int(lengths.sum()))
        before: _Launched | None = None
        start = 0
        while start < len(order):
            size = max(1, int(np.searchsorted(np.cumsum(lengths[order[start:]]), budget, side="right")))
            batch = order[start : start + size]
            launched = self._launch(batch, [token_ids[i] for i in batch], heads)
            if launched is not None:
                start += size
            elif size > 1:
                # Not within an `except`, which would keep the failed batch's tensors in its traceback.
                budget = int(lengths[batch].sum()) // 2
                # Another thread may have lowered it further.
                self._token_limit = min(budget, self._token_limit or budget)
            elif before is None:
                raise DeviceError(
                    f"a text of {lengths[batch[0]]:,} tokens does not fit into the memory of {self._memory()}: "
                    "free some, give a smaller max_length, or take another device"
                )
            if before is not None:
                yield before.indices, self._encoded(before)
            before = launched
        if before is not None:
            yield before.indices, self._encoded(before)

    def close(self) -> None:
        """Give the device's memory back."""
        with self._lock:
            self._encoder = self._heads = None
            self._release_cache()

    def _load(self) -> bool:
        """Copy the weights to the device; False if its memory does not suffice."""
        try:
            if self._device.type == "cuda":
                self._copies = torch.cuda.Stream(self._device)
            self._encoder = PackedEncoder(self._checkpoint, self._device, DTYPES[self.precision])
            self._heads = TorchHeads(self._checkpoint, self._device, self._vocabulary_size, self._unused_ids)
        except RuntimeError as error:
            if not is_shortage(error):
                raise
            return False
        if self._device.type != "cpu":  # which goes on computing with the file's pages
            release_pages(self._checkpoint.encoder.values())
        return True

    def _launch(
        self, indices: npt.NDArray[np.intp], token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads
    ) -> _Launched | None:
        """Have the device begin with a batch; None if its memory does not suffice."""
        # The precision is the engine's own, whatever the program around casts to.
        own_precision = torch.autocast(self._device.type, enabled=False)
        with self._lock, torch.inference_mode(), exact_float32(), own_precision:
            if self._encoder is None or self._heads is None:
                raise TrivecError("the model is closed: load it again")
            try:
                texts = PackedTexts.pack(token_ids, self._checkpoint.config.pad_token_id, self._device)
                outputs, copied = self._to_host(self._heads(self._encoder(texts), texts, heads))
            except RuntimeError as error:
                if not is_shortage(error):
                    raise
            else:
                return _Launched(indices, token_ids, texts.lengths, heads.mcls, outputs, copied)
            self._release_cache()
            return None

    def _to_host(self, outputs: HeadOutputs) -> tuple[HeadOutputs, torch.cuda.Event | None]:
        """Copy the outputs, on a GPU through page-locked memory and beside whatever it is given to do next."""
        named = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
        if self._copies is None:
            return HeadOutputs(**{name: None if t is None else t.cpu() for name, t in named.items()}), None
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        copies: dict[str, torch.Tensor | None] = dict.fromkeys(named)
        with torch.cuda.stream(self._copies):
            for name, tensor in named.items():
                if tensor is not None:
                    copies[name] = page_locked_like(tensor).copy_(tensor, non_blocking=True)
                    tensor.record_stream(self._copies)  # its memory is not given to others before the copy is done
            return HeadOutputs(**copies), self._copies.record_event()

    def _encoded(self, launched: _Launched) -> EncodedBatch:
        """Wait for a batch and make its results."""
        if launched.copied is not None:
            launched.copied.synchronize()
        outputs = launched.outputs
        if not outputs.finite:
            remedy = ' or overflow in fp16; try precision="bf16"' if self.precision == "fp16" else ""
            raise TrivecError(
                f"{self._checkpoint.folder} is damaged: its weights give vectors that are not finite numbers{remedy}"
            )
        sparse = vectors = None
        ends = np.cumsum(launched.lengths)
        if outputs.weights is not None:
            weights = outputs.weights.numpy()
            if outputs.cells is None:
                of_texts = np.split(weights, ends[:-1])
                sparse = pool_lexical_weights(launched.token_ids, of_texts, self._vocabulary_size, self._unused_ids)
            else:
                sparse = sparse_rows(outputs.cells.numpy(), weights, len(ends), self._vocabulary_size)
        if outputs.vectors is not None:
            # Copies, for page-locked memory is scarce, and a text's vectors must not keep the whole batch's alive.
            packed = outputs.vectors.numpy()
            vectors = [without_cls(rows, launched.mcls) for rows in np.split(packed, ends[:-1])]
        dense = None if outputs.dense is None else outputs.dense.numpy().copy()
        return EncodedBatch(dense, sparse, vectors)

    def _token_budget(self, heads: Heads, asked: int | None, total: int) -> int:
        """Most tokens of a batch."""
        most = asked or _MOST_TOKENS
        if self._device.type == "cuda":
            fitting = total
            if total > _FEW_TOKENS:
                free, _ = torch.cuda.mem_get_info(self._device)
                # What torch keeps for itself between batches is free as well.
                kept = torch.cuda.memory_stats(self._device)
                free += kept["reserved_bytes.all.current"] - kept["allocated_bytes.all.current"]
                fitting = int(_MEMORY_SHARE * free) // self._bytes_per_token(heads)
            most = tokens_a_batch(total, asked, fitting)
        return max(1, min(most, self._token_limit or most))

    def _bytes_per_token(self, heads: Heads) -> int:
        """Memory that a token takes while its batch is computed, at the worst moment, with what is being copied.

        The worst moment is one of three: attention (hidden state, query, key, value, context, and as much again where
        texts are laid out in groups), the feed-forward layer (hidden state before and after attention; inner state
        before and after GELU), or the heads (hidden state in both precisions, token vectors and the check of them).
        """
        config, colbert = self._checkpoint.config, self._checkpoint.colbert_linear
        number = int(DTYPES[self.precision].itemsize)
        attention = 10 * config.hidden_size * number
        feed_forward = 2 * (config.hidden_size + config.intermediate_size) * number
        vector = 4 * colbert.weight.shape[0] if heads.colbert and colbert is not None else 0
        of_heads = config.hidden_size * (number + 4) + 2 * vector + 64  # 64: pooling sorts a few integers a token
        return max(attention, feed_forward, of_heads) + vector

    def _memory(self) -> str:
        """The device, and how full it is, for messages."""
        if self._device.type != "cuda":
            return str(self._device)
        free, total = torch.cuda.mem_get_info(self._device)
        return f"{self._device} ({free / 1e9:.1f} of {total / 1e9:.1f} GB free)"

    def _release_cache(self) -> None:
        if self._device.type == "cuda":
            with torch.cuda.device(self._device):
                torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()
