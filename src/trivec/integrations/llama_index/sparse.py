"""Sparse vectors for LlamaIndex's store in Milvus, which asks for those of one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.vector_stores.milvus.utils import BaseSparseEmbeddingFunction

from trivec.integrations.shared_model import shared_model
from trivec.model import M3Model

# Between a node's metadata and its text, where dense vectors are computed: `TextNode.text_template`.
_AFTER_METADATA = "\n\n"


class TrivecSparseEmbedding(BaseSparseEmbeddingFunction):
    """BGE-M3's lexical weights, by token id.

    Where there is a `TrivecEmbedding` of the same model, what it computed is given. The store asks for dense vectors of
    metadata and text, but for sparse ones of the text alone: these are two texts, and the second of all nodes are
    computed together as soon as the first is asked for.
    """

    def __init__(self, model: str | Path | M3Model = "BAAI/bge-m3", **load_options: Any) -> None:
        """Load the model, unless this process has it from before.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model`.
            **load_options: As of `M3Model.load`.

        Raises:
            TypeError: Options are given for a model that is loaded.
            MissingHeadError: The model gives no sparse vectors.
            TrivecError: As by `M3Model.load`.
        """
        self._shared = shared_model(model, **load_options).wanting("sparse")

    def encode_queries(self, queries: list[str]) -> list[dict[int, float]]:
        """Return the weights of each query by token id."""
        return self._shared.sparse(queries)

    def encode_documents(self, documents: list[str]) -> list[dict[int, float]]:
        """Return the weights of each text by token id."""
        return self._shared.sparse(documents, reworded=_without_metadata)

    async def async_encode_queries(self, queries: list[str]) -> list[dict[int, float]]:
        """As `encode_queries`; awaits."""
        return await self._shared.asparse(queries)

    async def async_encode_documents(self, documents: list[str]) -> list[dict[int, float]]:
        """As `encode_documents`; awaits."""
        return await self._shared.asparse(documents)


def _without_metadata(text: str) -> str | None:
    return text.partition(_AFTER_METADATA)[2] or None
