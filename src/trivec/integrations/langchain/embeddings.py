"""Dense vectors for LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings

from trivec.integrations.shared_model import shared_model
from trivec.model import M3Model


class TrivecEmbeddings(Embeddings):
    """BGE-M3's dense vectors, of length 1.

    Where there is a `TrivecSparseEmbeddings` of the same model, the sparse vectors of the texts are computed along.

    Attributes:
        model: The `M3Model`.
    """

    def __init__(self, model: str | Path | M3Model = "BAAI/bge-m3", **load_options: Any) -> None:
        """Load the model, unless this process has it from before.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model`.
            **load_options: As of `M3Model.load`: `precision`, `device`, `max_length`, `api_key` and so on.

        Raises:
            TypeError: Options are given for a model that is loaded.
            TrivecError: As by `M3Model.load`.
        """
        self._shared = shared_model(model, **load_options).wanting("dense")
        self.model = self._shared.model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector of `dim` numbers a text."""
        return self._shared.dense(texts)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query, which is encoded as documents are."""
        return self._shared.dense([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`; awaits. Queries of many callers share batches; cancelling gives the place back."""
        return await self._shared.adense(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`; awaits."""
        return (await self._shared.adense([text]))[0]
