"""The CPU engine: OpenVINO graphs compiled for this processor, one padded batch at a time.

Knows token ids and vectors; of text, only what quantization has to read once. Nothing of the graph's insides.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.checkpoint.converted_cache import ConvertedCache
from trivec.checkpoint.tensors import release_pages
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines import EncodedBatch, Heads
from trivec.engines.batching import plan_batches
from trivec.engines.encoder_weights import WORD_EMBEDDINGS, encoder_weights
from trivec.engines.mcls import cls_means, without_cls
from trivec.engines.openvino.graph import encoder_graph, encoder_inputs, token_vectors_graph
from trivec.engines.openvino.runtime import core, ov
from trivec.engines.precisions import PRECISIONS
from trivec.engines.processor import choose_for_cpu, has_bf16
from trivec.engines.quantization import quantized_encoder_weights
from trivec.engines.raw_outputs import RawOutputs, encoded_batch
from trivec.errors import TrivecError

# Most tokens of a batch: with more, what the products hand on no longer fits the processor's caches. (Measured:
# docs/performance.md.)
MOST_TOKENS = 1024


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
            precision: "auto", or one that this engine computes in.
            num_threads: Threads to compute with; every core if None.
            cache: Keeps the weights as converted to bf16 or int8; None to convert them in memory each time.

        Raises:
            DeviceError: The processor cannot compute in `precision`.
        """
        self.precision = choose_for_cpu(precision, "openvino").precision
        self.batch_tokens = MOST_TOKENS
        self._checkpoint = checkpoint
        self._vocabulary_size = tokenizer.vocabulary_size
        self._unused_ids = tuple(tokenizer.unused_ids)
        self._lock = threading.Lock()
        # OpenVINO keeps the kernels of each batch shape it met, 5,000 by default: memory that grows with the input.
        self._properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "CPU_RUNTIME_CACHE_CAPACITY": 128}
        if num_threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = num_threads
            if num_threads < (os.cpu_count() or 1):
                # OpenVINO binds its threads to cores, beginning with the first: of two processes that each take a part
                # of the machine, both would lie on the same cores.
                self._properties["ENABLE_CPU_PINNING"] = False
        # By whether they are normalized.
        self._token_vectors: dict[bool, Any] = {}
        # Kept for as long as the graph, which shares their memory.
        self._weights = _prepared_weights(checkpoint, tokenizer, self.precision, self._properties, cache)
        graph = encoder_graph(checkpoint.config, self._weights, bf16=self.precision != "fp32" and has_bf16())
        self._encoder = self._compile(graph, self.precision)
        # The first run has OpenVINO copy the weights into its own order: done now, so that no query waits for it, and
        # the pages that were read are given back meanwhile, so that mapped weights are never in memory twice.
        some_ids = np.arange(min(16, checkpoint.config.max_length, checkpoint.config.vocab_size), dtype=np.int32)
        inputs = encoder_inputs([some_ids], self._weights[WORD_EMBEDDINGS], checkpoint.config.pad_token_id)
        with self._running(inputs):
            while not self._encoder.wait_for(5):  # milliseconds
                release_pages(self._weights.values())
        release_pages([*self._weights.values(), *checkpoint.encoder.values()])

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, max_batch_tokens: int | None
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts, batches of like length, the longest first; see `Engine.encode`.

        Raises:
            TrivecError: The engine is closed, or the weights give vectors that are not finite.
        """
        with self._lock:
            self._require_open()
            words = self._weights[WORD_EMBEDDINGS]
        batches = plan_batches(
            np.array([len(ids) for ids in token_ids]), min(max_batch_tokens or MOST_TOKENS, MOST_TOKENS)
        )
        texts = [[token_ids[i] for i in batch] for batch in batches]
        pad = self._checkpoint.config.pad_token_id
        all_inputs = (encoder_inputs(of_batch, words, pad) for of_batch in texts)
        inputs: list[npt.NDArray[Any]] | None = next(all_inputs)
        raw = RawOutputs(None, None, None)
        for number, batch in enumerate(texts):
            with self._lock:
                self._require_open()
                # While the graph computes this batch, the one before is pooled and the next one looked up.
                with self._running(inputs):
                    before = self._encoded(texts[number - 1], raw) if number else None
                    inputs = next(all_inputs, None)
                raw = self._run_heads(heads, [len(ids) for ids in batch])
            if before is not None:
                yield batches[number - 1], before
        if len(batches) > 1:  # the rows that were looked up are not worth keeping in memory
            release_pages([words])
        yield batches[-1], self._encoded(texts[-1], raw)

    def _require_open(self) -> None:
        if self._encoder is None:
            raise TrivecError("the model is closed: load it again")

    @contextmanager
    def _running(self, inputs: Sequence[npt.NDArray[np.generic]] | None) -> Iterator[None]:
        """Run the encoder on `inputs` beside the body; it has finished afterwards, whatever the body raised."""
        try:
            self._encoder.start_async(inputs, share_inputs=True)
            yield
        finally:
            self._encoder.wait()

    def _run_heads(self, heads: Heads, lengths: Sequence[int]) -> RawOutputs:
        """Run the heads, in float32, on the hidden states just computed.

        Dense: the hidden state of `<s>`. Sparse: relu(w . h + b), a weight per token. (M3-Embedding, arXiv 2402.03216,
        section 3.2.)
        """
        output = self._encoder.get_output_tensor()
        hidden = output.data  # (B, S, H), overwritten by the next batch
        dense = weights = vectors = None
        if heads.dense:
            dense = cls_means([row[:n] for row, n in zip(hidden, lengths, strict=True)], heads.mcls)
            if heads.normalize:
                dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), np.float32(1e-12))
        if heads.sparse and (linear := self._checkpoint.sparse_linear) is not None:
            weight, bias = linear.weight.float32()[0], linear.bias.float32()[0]
            # einsum, since BLAS would start threads of its own beside OpenVINO's.
            scores = np.maximum(np.einsum("bsh,h->bs", hidden, weight) + bias, np.float32(0))
            weights = [row[:n] for row, n in zip(scores, lengths, strict=True)]
        if heads.colbert and (linear := self._checkpoint.colbert_linear) is not None:
            if heads.normalize not in self._token_vectors:
                graph = token_vectors_graph(linear, normalize=heads.normalize)
                self._token_vectors[heads.normalize] = self._compile(graph, "fp32")
            request = self._token_vectors[heads.normalize]
            request.set_input_tensor(output)
            request.infer()
            computed = request.get_output_tensor().data
            vectors = [without_cls(row[:n], heads.mcls) for row, n in zip(computed, lengths, strict=True)]
        return RawOutputs(dense, weights, vectors)

    def _encoded(self, token_ids: Sequence[npt.NDArray[np.int32]], raw: RawOutputs) -> EncodedBatch:
        return encoded_batch(token_ids, raw, self._checkpoint.folder, self._vocabulary_size, self._unused_ids)

    def close(self) -> None:
        """Give the compiled graphs' memory back."""
        with self._lock:
            self._encoder = None
            self._token_vectors.clear()
            self._weights = {}

    def _compile(self, graph: ov.Model, precision: str) -> Any:
        # The whole graph is written for its precision; the hint lets OpenVINO fuse bfloat16 further.
        properties = self._properties | {"INFERENCE_PRECISION_HINT": PRECISIONS[precision].openvino_type}
        return core().compile_model(graph, "CPU", properties).create_infer_request()


def _prepared_weights(
    checkpoint: Checkpoint,
    tokenizer: M3Tokenizer,
    precision: str,
    properties: Mapping[str, Any],
    cache: ConvertedCache | None,
) -> Mapping[str, StoredTensor]:
    def convert() -> Iterator[tuple[str, StoredTensor]]:
        if precision == "int8":
            return quantized_encoder_weights(checkpoint, tokenizer, properties)
        return encoder_weights(checkpoint, precision)

    kept_as = PRECISIONS[precision].converted_as.get("openvino")
    if cache is None or kept_as is None:  # in fp32 the checkpoint itself is what is computed with
        return dict(convert())
    return cache.load_or_convert(checkpoint, kept_as, convert)
