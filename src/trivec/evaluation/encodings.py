"""A model's vectors of a data set's texts, in blocks that live in the cache.

Dense and sparse vectors are kept for every text. Token vectors are not: a full-size model makes 4 KB of them a token.
They are computed for candidates only, block by block, and what is kept is the MaxSim score of each pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy.sparse import csr_array, vstack

from trivec import __version__
from trivec.encoding import warn_of_truncation
from trivec.evaluation.array_cache import ArrayCache, Arrays, content_key
from trivec.model import M3Model, encode_without_warning
from trivec.search.exact import EncodedBlock, Float32, Rows
from trivec.search.maxsim import QueryTokens
from trivec.support.progress import progress_bar
from trivec.vectors.embeddings import M3Embeddings

_BLOCK = 1024  # texts of a cache entry with dense and sparse vectors
# Documents whose token vectors are held at once: so many, and so many characters (about 1 GB at full size).
_CANDIDATES = 256
_CANDIDATE_CHARACTERS = 400_000


@dataclass(frozen=True)
class Encoder:
    """A model with the settings of one evaluation and the cache of what it has computed.

    Args:
        model: The model; its dense head is always used, its sparse head where it has one.
        cache: Where vectors and scores are kept.
        fingerprint: The model's; "" where the cache serves this model alone.
        max_batch_tokens: As in `M3Model.encode`.
        max_length: Most tokens of a text that are read; the model's own if None.
        mcls: As in `M3Model.encode`.
        show_progress: Show a bar while encoding.
    """

    model: M3Model
    cache: ArrayCache
    fingerprint: str
    max_batch_tokens: int | None = None
    max_length: int | None = None
    mcls: int | None = None
    show_progress: bool = False

    @cached_property
    def identity(self) -> str:
        """A key of everything that a vector depends on besides the text: the model and the settings."""
        length = self.model.checked_length(self.max_length)
        more_cls = [] if self.mcls is None else [f"mcls {self.mcls}"]
        return content_key([__version__, self.fingerprint, self.model.precision, str(length), *more_cls])

    def blocks(self, texts: Sequence[str], description: str) -> Iterator[EncodedBlock]:
        """Yield the dense and sparse vectors of consecutive texts, block by block, from the cache where they are there.

        At the end one warning counts the texts that are too long to be read whole.

        Args:
            texts: The texts.
            description: Stands before the progress bar and the warning.
        """
        with progress_bar(len(texts), description, "texts", self.show_progress) as bar:
            truncated = 0
            for start in range(0, len(texts), _BLOCK):
                block = list(texts[start : start + _BLOCK])
                key = content_key(["vectors", self.identity, *block])
                arrays = self.cache.load_or_build(key, partial(self._vectors, block))
                truncated += int(arrays["truncated"])
                yield _unpack(start, arrays)
                bar.update(len(block))
        warn_of_truncation(truncated, len(texts), self.model.checked_length(self.max_length), description)

    def whole(self, texts: Sequence[str], description: str) -> EncodedBlock:
        """The dense and sparse vectors of all texts in one block."""
        blocks = list(self.blocks(texts, description))
        dense = [block.dense for block in blocks if block.dense is not None]
        sparse = [block.sparse for block in blocks if block.sparse is not None]
        return EncodedBlock(0, np.concatenate(dense), csr_array(vstack(sparse)) if sparse else None)

    def multi_vector_scores(
        self, queries: Sequence[str], documents: Sequence[str], query: Rows, document: Rows, description: str
    ) -> Float32:
        """MaxSim of given pairs; each document is encoded once, however many queries it is a candidate of.

        Args:
            queries: All query texts.
            documents: All document texts.
            query: (p,) query of each pair.
            document: (p,) its document, ascending.
            description: Stands before the progress bar.

        Returns:
            (p,) float32.
        """
        scores = np.empty(len(query), np.float32)
        candidates = np.unique(document)
        # (queries, 32) bytes: a digest each, so that a block's key takes one step a document and not one a pair.
        digests = np.frombuffer(bytes.fromhex("".join(content_key([text]) for text in queries)), np.uint8).reshape(
            -1, 32
        )
        tokens: list[QueryTokens] = []  # encoded when the first block is not in the cache

        def build(block: Rows, bounds: Rows) -> Arrays:
            if not tokens:
                tokens.append(QueryTokens(self._token_vectors(queries)))
            vectors = self._token_vectors([documents[row] for row in block])
            parts = [tokens[0].scores(vectors[i], query[bounds[i] : bounds[i + 1]]) for i in range(len(block))]
            return {"scores": np.concatenate(parts)}

        with progress_bar(len(candidates), description, "texts", self.show_progress) as bar:
            for block in _candidate_blocks(candidates, documents):
                bounds = np.append(np.searchsorted(document, block), np.searchsorted(document, block[-1], side="right"))
                key: list[str | bytes] = ["maxsim", self.identity]
                for row, low, high in zip(block, bounds[:-1], bounds[1:], strict=True):
                    key += [documents[row], digests[query[low:high]].tobytes()]
                found = self.cache.load_or_build(content_key(key), partial(build, block, bounds))
                scores[bounds[0] : bounds[-1]] = found["scores"]
                bar.update(len(block))
        return scores

    def _vectors(self, texts: list[str]) -> Arrays:
        encoded = self._encode(texts, return_sparse=self.model.has_sparse)
        assert encoded.dense is not None
        arrays: Arrays = {"dense": encoded.dense, "truncated": np.array(encoded.truncated)}
        if encoded.sparse is not None:
            arrays |= {
                "sparse_data": encoded.sparse.data,
                "sparse_indices": encoded.sparse.indices,
                "sparse_indptr": encoded.sparse.indptr,
                "sparse_shape": np.array(encoded.sparse.shape),
            }
        return arrays

    def _token_vectors(self, texts: Sequence[str]) -> list[Float32]:
        encoded = self._encode(texts, return_dense=False, return_sparse=False, return_colbert_vecs=True)
        assert encoded.colbert_vecs is not None
        return encoded.colbert_vecs

    def _encode(self, texts: Sequence[str], **vectors: bool) -> M3Embeddings:
        # `blocks` warns, once for all texts and also of those whose vectors come from the cache.
        return encode_without_warning(
            self.model,
            texts,
            max_batch_tokens=self.max_batch_tokens,
            max_length=self.max_length,
            mcls=self.mcls,
            show_progress=False,
            **vectors,
        )


def _candidate_blocks(candidates: Rows, documents: Sequence[str]) -> Iterator[Rows]:
    start = characters = 0
    for end, row in enumerate(candidates):
        characters += len(documents[row])
        if end > start and (end - start == _CANDIDATES or characters > _CANDIDATE_CHARACTERS):
            yield candidates[start:end]
            start, characters = end, len(documents[row])
    if len(candidates):
        yield candidates[start:]


def _unpack(start: int, arrays: Arrays) -> EncodedBlock:
    sparse = None
    if "sparse_data" in arrays:
        parts = (arrays["sparse_data"], arrays["sparse_indices"], arrays["sparse_indptr"])
        sparse = csr_array(parts, shape=tuple(arrays["sparse_shape"]))
    return EncodedBlock(start, arrays["dense"], sparse)
