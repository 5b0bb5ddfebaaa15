"""Sparse vectors for langchain-milvus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_milvus.utils.sparse import BaseSparseEmbedding

from trivec.integrations.shared_model import shared_model
from trivec.model import M3Model


class TrivecSparseEmbeddings(BaseSparseEmbedding):
    """BGE-M3's lexical weights, by token id.

    Where there is a `TrivecEmbeddings` of the same model, the dense vectors of the texts are computed along.

    Attributes:
        model: The `M3Model`.
    """

    def __init__(self, model: str | Path | M3Model = "BAAI/bge-m3", **load_options: Any) -> None:
        """Load the model, unless this process has it from before; arguments and errors are `TrivecEmbeddings`'.

        Raises:
            MissingHeadError: The model gives no sparse vectors.
        """
        self._shared = shared_model(model, **load_options).wanting("sparse")
        self.model = self._shared.model

    def embed_documents(self, texts: list[str]) -> list[dict[int, float]]:
        """Return the weights of each text by token id."""
        return self._shared.sparse(texts)

    def embed_query(self, query: str) -> dict[int, float]:
        """Return the weights of a query, which is encoded as documents are."""
        return self._shared.sparse([query])[0]

    async def aembed_documents(self, texts: list[str]) -> list[dict[int, float]]:
        """As `embed_documents`; awaits."""
        return await self._shared.asparse(texts)

    async def aembed_query(self, query: str) -> dict[int, float]:
        """As `embed_query`; awaits."""
        return (await self._shared.asparse([query]))[0]
