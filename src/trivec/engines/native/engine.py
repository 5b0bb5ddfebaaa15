"""The native engine: the encoder in C kernels of our own, one flat batch of tokens at a time.

Faster than OpenVINO where the processor has AVX2 and nothing newer: there OpenVINO cannot multiply 8-bit weights with
any gain. int8 is 8-bit weights with 16-bit activations (rows.c says why), fp32 is exact. Texts are not padded and there
are no shapes to compile for, so neither memory nor time depends on which lengths come by.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.checkpoint.converted_cache import ConvertedCache
from trivec.checkpoint.tensors import release_pages
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines import EncodedBatch, Heads
from trivec.engines.batching import plan_flat_batches
from trivec.engines.encoder_weights import POSITIONS, TYPES, WORD_EMBEDDINGS, encoder_weights
from trivec.engines.mcls import cls_means, without_cls
from trivec.engines.native.layout import EncoderLayout, HeadLayout, packed_weights
from trivec.engines.native.library import Pool
from trivec.engines.precisions import PRECISIONS
from trivec.engines.processor import available_cores
from trivec.engines.quantization import quantized_encoder_weights
from trivec.engines.raw_outputs import RawOutputs, encoded_batch
from trivec.errors import TrivecError

# Most tokens of a batch. With fewer, weights are read more often; with more, activations leave the caches.
MOST_TOKENS = 1024
# A batch of more tokens (one long text) has its memory given back afterwards.
_MUCH = 2048


class NativeEngine:
    """Encodes on the CPU; safe to call from several threads, which take turns (each call uses every core)."""

    # A forked child goes on with these weights and starts threads of its own.
    survives_fork = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: M3Tokenizer,
        precision: str,
        num_threads: int | None = None,
        cache: ConvertedCache | None = None,
    ) -> None:
        """Lay the weights out and start the threads.

        Args:
            checkpoint: The opened model folder.
            tokenizer: Its tokenizer.
            precision: One that this engine computes in.
            num_threads: Threads to compute with; every core if None.
            cache: Keeps the weights as converted to int8; None to convert them in memory each time.
        """
        self.precision = precision
        self.batch_tokens = MOST_TOKENS
        self._checkpoint = checkpoint
        self._vocabulary_size = tokenizer.vocabulary_size
        self._unused_ids = tuple(tokenizer.unused_ids)
        self._threads = num_threads or available_cores()
        self._weights = _prepared_weights(checkpoint, tokenizer, precision, self._threads, cache)
        self._encoder: EncoderLayout | None = EncoderLayout(checkpoint.config, self._weights)
        linear = checkpoint.colbert_linear
        self._colbert = None if linear is None else HeadLayout(linear)
        self._first_row = self._weights[TYPES].float32()[0]  # every token is of type 0
        release_pages(checkpoint.encoder.values())
        self._lock = threading.Lock()
        self._pool: Pool | None = Pool(self._threads)
        _engines.add(self)

    def encode(
        self, token_ids: Sequence[npt.NDArray[np.int32]], heads: Heads, max_batch_tokens: int | None
    ) -> Iterator[tuple[npt.NDArray[np.intp], EncodedBatch]]:
        """Compute the vectors of texts, the longest first; see `Engine.encode`.

        Raises:
            TrivecError: The engine is closed, or the weights give vectors that are not finite.
        """
        lengths = np.array([len(ids) for ids in token_ids])
        batches = plan_flat_batches(lengths, min(max_batch_tokens or MOST_TOKENS, MOST_TOKENS))
        for batch in batches:
            texts = [token_ids[i] for i in batch]
            with self._lock:
                raw = self._run(texts, heads)
            checkpoint = self._checkpoint
            yield batch, encoded_batch(texts, raw, checkpoint.folder, self._vocabulary_size, self._unused_ids)
        words = self._weights.get(WORD_EMBEDDINGS)  # None: closed meanwhile
        if len(batches) > 1 and words is not None:  # the rows that were looked up are not worth keeping in memory
            release_pages([words])

    def _run(self, texts: Sequence[npt.NDArray[np.int32]], heads: Heads) -> RawOutputs:
        """Run the encoder, then the heads, in float32, on its hidden states.

        Dense: the hidden state of `<s>`. Sparse: relu(w . h + b), a weight per token. Token vectors: W h + b for every
        token but `<s>`. (M3-Embedding, arXiv 2402.03216, section 3.2.)
        """
        if self._encoder is None:
            raise TrivecError("the model is closed: load it again")
        if self._pool is None:  # this process was forked
            self._pool = Pool(self._threads)
        lengths = [len(ids) for ids in texts]
        hidden = self._pool.encode(self._encoder.model, self._embeddings(texts), lengths)
        ends = np.cumsum(lengths)
        dense = weights = vectors = None
        if heads.dense:
            dense = cls_means(np.split(hidden, ends[:-1]), heads.mcls)
            if heads.normalize:
                dense = _normalized(dense)
        if heads.sparse and (linear := self._checkpoint.sparse_linear) is not None:
            # einsum, since BLAS would start threads of its own beside the pool's.
            scores = np.einsum("th,h->t", hidden, linear.weight.float32()[0]) + linear.bias.float32()[0]
            weights = np.split(np.maximum(scores, np.float32(0)), ends[:-1])
        if heads.colbert and self._colbert is not None:
            computed = self._pool.linear(self._colbert.product, hidden)
            if heads.normalize:
                computed = _normalized(computed)
            vectors = [without_cls(rows, heads.mcls) for rows in np.split(computed, ends[:-1])]
        if len(hidden) > _MUCH:
            self._pool.trim()
        return RawOutputs(dense, weights, vectors)

    def _embeddings(self, texts: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """Sums of word, position and type, (tokens, hidden)."""
        ids = np.concatenate(texts)
        pad = self._checkpoint.config.pad_token_id
        # RoBERTa counts positions over the ids that are not <pad>, even a <pad> spelled out inside a text.
        counted = [np.cumsum(of_text != pad) * (of_text != pad) for of_text in texts]
        summed = self._weights[WORD_EMBEDDINGS].rows(ids)
        summed += self._weights[POSITIONS].rows(np.concatenate(counted) + pad)
        summed += self._first_row
        return summed

    def close(self) -> None:
        """End the threads and give the weights' memory back."""
        with self._lock:
            if self._encoder is not None:
                self._encoder = None
                self._colbert = None
                self._weights = {}
                if self._pool is not None:
                    self._pool.close()


def _normalized(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # As torch.nn.functional.normalize does.
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalized: npt.NDArray[np.float32] = np.divide(vectors, np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)
    return normalized


def _prepared_weights(
    checkpoint: Checkpoint, tokenizer: M3Tokenizer, precision: str, threads: int, cache: ConvertedCache | None
) -> Mapping[str, StoredTensor]:
    def convert() -> Iterator[tuple[str, StoredTensor]]:
        if precision == "int8":
            properties = {"INFERENCE_NUM_THREADS": threads}
            return packed_weights(quantized_encoder_weights(checkpoint, tokenizer, properties, exact_activations=True))
        return packed_weights(encoder_weights(checkpoint, precision))

    # In fp32 the order is made anew at each load: to keep it would double what the checkpoint takes on disk.
    kept_as = PRECISIONS[precision].converted_as.get("native")
    if cache is None or kept_as is None:
        weights = {}
        for name, tensor in convert():
            weights[name] = tensor
            if name.endswith(".output.LayerNorm.bias"):  # so that no layer is in memory twice
                release_pages(checkpoint.encoder.values())
        return weights
    return cache.load_or_convert(checkpoint, kept_as, convert)


_engines: weakref.WeakSet[NativeEngine] = weakref.WeakSet()


def _forget_threads() -> None:
    """A forked process has this one's memory but not its threads, nor will anybody there let go of a lock held here."""
    for engine in _engines:
        engine._lock = threading.Lock()
        engine._pool = None


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_threads)
