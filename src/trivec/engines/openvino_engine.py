"""The CPU engine: OpenVINO graphs compiled for this processor, one padded batch at a time.

Knows nothing about texts, and nothing about the graph's insides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.batching import plan_batches
from trivec.checkpoint import Checkpoint
from trivec.engines import EncodedBatch, Heads
from trivec.engines.openvino_graph import encoder_graph, heads_graph
from trivec.engines.openvino_runtime import ov
from trivec.errors import DeviceError, TrivecError
from trivec.sparse import pool_lexical_weights

_HINTS = {"fp32": "f32", "bf16": "bf16"}


def cpu_precision(wanted: str) -> str:
    """What `wanted` ("auto", "fp32" or "bf16") means on this processor: "fp32" or "bf16".

    "auto" is bf16 where the processor multiplies bfloat16 natively (AMX or AVX512-BF16), else fp32.

    Raises:
        DeviceError: bf16 is asked for and the processor has no instructions for it.
    """
    has_bf16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "bf16" and not has_bf16:
        raise DeviceError(
            'precision="bf16" needs a processor with AMX or AVX512-BF16, which this one lacks: use "fp32" or "auto"'
        )
    if wanted == "auto":
        return "bf16" if has_bf16 else "fp32"
    return wanted


@dataclass(frozen=True)
class _RawOutputs:
    """What the heads gave, without padding: (n, dim), and a (tokens,) and a (tokens - 1, dim) array a text."""

    dense: npt.NDArray[np.float32] | None
    weights: list[npt.NDArray[np.float32]] | None
    vectors: list[npt.NDArray[np.float32]] | None


class OpenVINOEngine:
    """Encodes on the CPU; safe to call from several threads, which take turns (each call uses every core)."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: str,
        vocabulary_size: int,
        unused_ids: Sequence[int],
        num_threads: int | None = None,
    ) -> None:
        """Compile the encoder.

        Args:
            checkpoint: The opened model folder.
            precision: "auto", "fp32" or "bf16".
            vocabulary_size: Columns of a sparse vector.
            unused_ids: Token ids without a lexical weight.
            num_threads: Threads to compute with; every core if None.

        Raises:
            DeviceError: The processor cannot compute in `precision`.
        """
        self.precision = cpu_precision(precision)
        self._checkpoint = checkpoint
        self._vocabulary_size = vocabulary_size
        self._unused_ids = tuple(unused_ids)
        self._lock = threading.Lock()
        self._heads: dict[Heads, Any] = {}
        self._core = ov.Core()
        # OpenVINO keeps the kernels of each batch shape it met, 5,000 by default: memory that grows with the input.
        self._properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "CPU_RUNTIME_CACHE_CAPACITY": 128}
        if num_threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = num_threads
        graph = encoder_graph(checkpoint.config, checkpoint.encoder)
        self._encoder = self._compile(graph, self.precision)

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, token_budget: int
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts, batches of like length, the longest first; see `Engine.encode`.

        Raises:
            TrivecError: The engine is closed, or the weights give vectors that are not finite.
        """
        batches = plan_batches(np.array([len(ids) for ids in token_ids]), token_budget)
        texts = [[token_ids[i] for i in batch] for batch in batches]
        padded = map(self._padded, texts)
        inputs: list[npt.NDArray[Any]] | None = next(padded)
        raw = _RawOutputs(None, None, None)
        for number, batch in enumerate(texts):
            with self._lock:
                if self._encoder is None:
                    raise TrivecError("the model is closed: load it again")
                self._encoder.start_async(inputs, share_inputs=True)
                # While the graph computes this batch, the one before is pooled and the next one looked up.
                try:
                    before = self._encoded(texts[number - 1], raw) if number else None
                    following = next(padded, None)
                finally:
                    self._encoder.wait()
                raw = self._run_heads(heads, [len(ids) for ids in batch])
            inputs = following
            if before is not None:
                yield batches[number - 1], before
        yield batches[-1], self._encoded(texts[-1], raw)

    def _padded(self, token_ids: Sequence[npt.NDArray[np.int32]]) -> list[npt.NDArray[Any]]:
        """The encoder's inputs for a batch: word embeddings, position ids, attention mask."""
        pad = self._checkpoint.config.pad_token_id
        padded = np.full((len(token_ids), max(map(len, token_ids))), pad, dtype=np.int32)
        mask = np.zeros(padded.shape, dtype=np.bool_)
        for row, ids in enumerate(token_ids):
            padded[row, : len(ids)] = ids
            mask[row, : len(ids)] = True
        words = self._checkpoint.encoder["embeddings.word_embeddings.weight"].rows(padded)
        # RoBERTa counts positions over the ids that are not <pad>, even a <pad> spelled out inside a text.
        counted = padded != pad
        positions = (np.cumsum(counted, axis=1, dtype=np.int32) * counted + pad).astype(np.int32)
        return [words, positions, mask]

    def _run_heads(self, heads: Heads, lengths: Sequence[int]) -> _RawOutputs:
        """Run the heads on the hidden states just computed, and take from the graph what it will overwrite."""
        request = self._heads_request(heads)
        request.set_input_tensor(self._encoder.get_output_tensor())
        request.infer()
        return _RawOutputs(
            dense=request.get_tensor("dense").data.copy() if heads.dense else None,
            weights=[row[:n].copy() for row, n in zip(request.get_tensor("sparse").data, lengths, strict=True)]
            if heads.sparse
            else None,
            vectors=[v[: n - 1].copy() for v, n in zip(request.get_tensor("colbert").data, lengths, strict=True)]
            if heads.colbert
            else None,
        )

    def _encoded(self, token_ids: Sequence[npt.NDArray[np.int32]], raw: _RawOutputs) -> EncodedBatch:
        for values in (raw.dense, *(raw.weights or ()), *(raw.vectors or ())):
            if values is not None and not np.isfinite(values).all():
                raise TrivecError(
                    f"{self._checkpoint.folder} is damaged: its weights give vectors that are not finite numbers"
                )
        sparse = None
        if raw.weights is not None:
            sparse = pool_lexical_weights(token_ids, raw.weights, self._vocabulary_size, self._unused_ids)
        return EncodedBatch(raw.dense, sparse, raw.vectors)

    def close(self) -> None:
        """Give the compiled graphs' memory back."""
        with self._lock:
            self._encoder = None
            self._heads.clear()

    def _heads_request(self, heads: Heads) -> Any:
        if heads not in self._heads:
            # float32 always: the heads are a thousandth of the work and the last step to the user.
            self._heads[heads] = self._compile(heads_graph(self._checkpoint, heads), "fp32")
        return self._heads[heads]

    def _compile(self, graph: ov.Model, precision: str) -> Any:
        properties = self._properties | {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
        return self._core.compile_model(graph, "CPU", properties).create_infer_request()
