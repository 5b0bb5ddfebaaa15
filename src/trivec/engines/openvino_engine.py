"""The CPU engine: OpenVINO graphs compiled for this processor, one padded batch at a time.

Knows nothing about texts, and nothing about the graph's insides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.batching import plan_batches
from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.checkpoint.converted_cache import ConvertedCache
from trivec.checkpoint.tensors import release_pages
from trivec.engines import EncodedBatch, Heads
from trivec.engines.encoder_weights import WORD_EMBEDDINGS, encoder_weights
from trivec.engines.openvino_graph import encoder_graph, encoder_inputs, heads_graph
from trivec.engines.openvino_runtime import ov
from trivec.engines.processor import cpu_precision, has_bf16
from trivec.engines.quantization import quantized_encoder_weights
from trivec.errors import TrivecError
from trivec.sparse import pool_lexical_weights
from trivec.tokenizer import M3Tokenizer

# Most tokens of a batch: with more, what the products hand on no longer fits the processor's caches. (Measured:
# docs/performance.md.)
MOST_TOKENS = 1024
# The whole graph is written for its precision; the hint lets OpenVINO fuse bfloat16 further.
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


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
        tokenizer: M3Tokenizer,
        precision: str,
        num_threads: int | None = None,
        cache: ConvertedCache | None = None,
    ) -> None:
        """Compile the encoder.

        Args:
            checkpoint: The opened model folder.
            tokenizer: Its tokenizer.
            precision: "auto", "fp32", "bf16" or "int8".
            num_threads: Threads to compute with; every core if None.
            cache: Keeps the weights as converted to bf16 or int8; None to convert them in memory each time.

        Raises:
            DeviceError: The processor cannot compute in `precision`.
        """
        self.precision = cpu_precision(precision)
        self._checkpoint = checkpoint
        self._vocabulary_size = tokenizer.vocabulary_size
        self._unused_ids = tuple(tokenizer.unused_ids)
        self._lock = threading.Lock()
        self._heads: dict[Heads, Any] = {}
        self._core = ov.Core()
        # OpenVINO keeps the kernels of each batch shape it met, 5,000 by default: memory that grows with the input.
        self._properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "CPU_RUNTIME_CACHE_CAPACITY": 128}
        if num_threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = num_threads
        # Kept for as long as the graph, which shares their memory.
        self._weights = _prepared_weights(checkpoint, tokenizer, self.precision, cache)
        graph = encoder_graph(checkpoint.config, self._weights, bf16=self.precision != "fp32" and has_bf16())
        self._encoder = self._compile(graph, self.precision)
        # The first run has OpenVINO copy the weights into its own order: done now, so that no query waits for it, and
        # the pages that were read are given back meanwhile, so that the weights are never in memory twice.
        inputs = self._inputs([np.arange(16, dtype=np.int32)])
        self._encoder.start_async(inputs)
        while not self._encoder.wait_for(5):  # milliseconds
            release_pages(self._weights.values())
        release_pages([*self._weights.values(), *checkpoint.encoder.values()])

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, token_budget: int
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts, batches of like length, the longest first; see `Engine.encode`.

        Raises:
            TrivecError: The engine is closed, or the weights give vectors that are not finite.
        """
        self._require_open()
        batches = plan_batches(np.array([len(ids) for ids in token_ids]), min(token_budget, MOST_TOKENS))
        texts = [[token_ids[i] for i in batch] for batch in batches]
        padded = map(self._inputs, texts)
        inputs: list[npt.NDArray[Any]] | None = next(padded)
        raw = _RawOutputs(None, None, None)
        for number, batch in enumerate(texts):
            with self._lock:
                self._require_open()
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

    def _inputs(self, token_ids: Sequence[npt.NDArray[np.int32]]) -> list[npt.NDArray[np.generic]]:
        return encoder_inputs(token_ids, self._weights[WORD_EMBEDDINGS], self._checkpoint.config.pad_token_id)

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

    def _require_open(self) -> None:
        if self._encoder is None:
            raise TrivecError("the model is closed: load it again")

    def close(self) -> None:
        """Give the compiled graphs' memory back."""
        with self._lock:
            self._encoder = None
            self._heads.clear()
            self._weights = {}

    def _heads_request(self, heads: Heads) -> Any:
        if heads not in self._heads:
            # float32 always: the heads are a thousandth of the work and the last step to the user.
            self._heads[heads] = self._compile(heads_graph(self._checkpoint, heads), "fp32")
        return self._heads[heads]

    def _compile(self, graph: ov.Model, precision: str) -> Any:
        properties = self._properties | {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
        return self._core.compile_model(graph, "CPU", properties).create_infer_request()


def _prepared_weights(
    checkpoint: Checkpoint, tokenizer: M3Tokenizer, precision: str, cache: ConvertedCache | None
) -> Mapping[str, StoredTensor]:
    def convert() -> Iterator[tuple[str, StoredTensor]]:
        if precision == "int8":
            return quantized_encoder_weights(checkpoint, tokenizer)
        return encoder_weights(checkpoint, precision)

    # In fp32 the checkpoint itself is what is computed with.
    if cache is None or precision == "fp32":
        return dict(convert())
    return cache.load_or_convert(checkpoint, precision, convert)
