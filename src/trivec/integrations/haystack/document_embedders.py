"""The vectors of documents, for Haystack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component

from trivec.integrations.haystack.embedders import DocumentEmbedder
from trivec.integrations.haystack.sparse_vectors import sparse_embedding


@component
class TrivecDocumentEmbedder(DocumentEmbedder):
    """Adds dense vectors, of length 1, to documents.

    Where a `TrivecSparseDocumentEmbedder` of the same model and the same text comes after or before it, one pass serves
    both.
    """

    kind = "dense"

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return {"documents": the documents with vectors}."""
        return _with_dense(documents, self.loaded().dense(self.texts(documents)))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """As `run`; awaits."""
        return _with_dense(documents, await self.loaded().adense(self.texts(documents)))


@component
class TrivecSparseDocumentEmbedder(DocumentEmbedder):
    """Adds sparse vectors, lexical weights by token id, to documents.

    Where a `TrivecDocumentEmbedder` of the same model and the same text comes before or after it, one pass serves both.
    """

    kind = "sparse"

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
