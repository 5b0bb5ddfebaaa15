"""The vectors of documents, for Haystack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.utils import Secret

from trivec.integrations.haystack.loading import KEY, Loading, texts_of
from trivec.integrations.haystack.sparse_vectors import sparse_embedding
from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.model import M3Model


class _DocumentEmbedder(Loading[SharedModel]):
    """A component that adds vectors to documents."""

    def __init__(
        self,
        model: str | Path | M3Model,
        api_key: Secret,
        load_options: dict[str, Any] | None,
        meta_fields_to_embed: Sequence[str] | None,
        embedding_separator: str,
    ) -> None:
        super().__init__(model, api_key, load_options)
        self.meta_fields_to_embed = list(meta_fields_to_embed or ())
        self.embedding_separator = embedding_separator

    def own_parameters(self) -> dict[str, Any]:
        """Return which text of a document is read."""
        return {
            "meta_fields_to_embed": self.meta_fields_to_embed or None,
            "embedding_separator": self.embedding_separator,
        }

    def texts(self, documents: list[Document]) -> list[str]:
        """Return the text of each document that is read."""
        return texts_of(documents, self.meta_fields_to_embed, self.embedding_separator)


@component
class TrivecDocumentEmbedder(_DocumentEmbedder):
    """Adds dense vectors, of length 1, to documents.

    Where a `TrivecSparseDocumentEmbedder` of the same model and the same text comes after or before it, one pass serves
    both.
    """

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """Note what to load.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model`.
            api_key: A server's key, for a URL.
            load_options: Further arguments of `M3Model.load`, such as `{"precision": "int8"}`.
            meta_fields_to_embed: Names of metadata that are read before the content, where a document has them.
            embedding_separator: Stands between these and the content.
        """
        _DocumentEmbedder.__init__(self, model, api_key, load_options, meta_fields_to_embed, embedding_separator)

    def load(self, **load_options: Any) -> SharedModel:
        """Return the model, which computes dense vectors along with others."""
        return shared_model(self.model, **load_options).wanting("dense")

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return {"documents": the documents with vectors}."""
        return _with_dense(documents, self.loaded().dense(self.texts(documents)))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """As `run`; awaits."""
        return _with_dense(documents, await self.loaded().adense(self.texts(documents)))


@component
class TrivecSparseDocumentEmbedder(_DocumentEmbedder):
    """Adds sparse vectors, lexical weights by token id, to documents.

    Where a `TrivecDocumentEmbedder` of the same model and the same text comes before or after it, one pass serves both.
    """

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """Note what to load; arguments are `TrivecDocumentEmbedder`'s."""
        _DocumentEmbedder.__init__(self, model, api_key, load_options, meta_fields_to_embed, embedding_separator)

    def load(self, **load_options: Any) -> SharedModel:
        """Return the model, which computes sparse vectors along with others."""
        return shared_model(self.model, **load_options).wanting("sparse")

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return {"documents": the documents with vectors}."""
        return _with_sparse(documents, self.loaded().sparse(self.texts(documents)))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """As `run`; awaits."""
        return _with_sparse(documents, await self.loaded().asparse(self.texts(documents)))


def _with_dense(documents: list[Document], vectors: list[list[float]]) -> dict[str, Any]:
    return {"documents": [replace(each, embedding=vector) for each, vector in zip(documents, vectors, strict=True)]}


def _with_sparse(documents: list[Document], vectors: list[dict[int, float]]) -> dict[str, Any]:
    made = [
        replace(each, sparse_embedding=sparse_embedding(weights))
        for each, weights in zip(documents, vectors, strict=True)
    ]
    return {"documents": made}
