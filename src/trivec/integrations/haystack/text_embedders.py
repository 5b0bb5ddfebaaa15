"""The vectors of a query, for Haystack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from haystack import component
from haystack.dataclasses import SparseEmbedding
from haystack.utils import Secret

from trivec.integrations.haystack.loading import KEY, Loading, checked_text
from trivec.integrations.haystack.sparse_vectors import sparse_embedding
from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.model import M3Model


@component
class TrivecTextEmbedder(Loading[SharedModel]):
    """Gives a query's dense vector, of length 1.

    Where a `TrivecSparseTextEmbedder` of the same model is in the process, one pass serves both.
    """

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
    ) -> None:
        """Note what to load.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model`.
            api_key: A server's key, for a URL.
            load_options: Further arguments of `M3Model.load`, such as `{"precision": "int8"}`.
        """
        Loading.__init__(self, model, api_key, load_options)

    def load(self, **load_options: Any) -> SharedModel:
        """Return the model, which computes dense vectors along with others."""
        return shared_model(self.model, **load_options).wanting("dense")

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return {"embedding": the text's vector}."""
        return {"embedding": self.loaded().dense([checked_text(text)])[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """As `run`; awaits."""
        return {"embedding": (await self.loaded().adense([checked_text(text)]))[0]}


@component
class TrivecSparseTextEmbedder(Loading[SharedModel]):
    """Gives a query's sparse vector: lexical weights by token id.

    Where a `TrivecTextEmbedder` of the same model is in the process, one pass serves both.
    """

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
    ) -> None:
        """Note what to load; arguments are `TrivecTextEmbedder`'s."""
        Loading.__init__(self, model, api_key, load_options)

    def load(self, **load_options: Any) -> SharedModel:
        """Return the model, which computes sparse vectors along with others."""
        return shared_model(self.model, **load_options).wanting("sparse")

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, Any]:
        """Return {"sparse_embedding": the text's vector}."""
        return {"sparse_embedding": sparse_embedding(self.loaded().sparse([checked_text(text)])[0])}

    @component.output_types(sparse_embedding=SparseEmbedding)
    async def run_async(self, text: str) -> dict[str, Any]:
        """As `run`; awaits."""
        return {"sparse_embedding": sparse_embedding((await self.loaded().asparse([checked_text(text)]))[0])}
