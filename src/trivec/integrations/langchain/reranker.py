"""Reranking for LangChain: a compressor of documents, as `ContextualCompressionRetriever` takes one."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict

from trivec.integrations.reranker import Reranker


class TrivecReranker(Reranker, BaseDocumentCompressor):
    """Puts documents into the order in which they answer the query; their metadata get a "relevance_score".

    Attributes:
        mode: What scores them.
        top_n: How many of them are given back; all if None.
    """

    model_config = ConfigDict(extra="forbid")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents for a query, best first."""
        found = self._ranking.rank(query, [document.page_content for document in documents], self.top_n)
        return _reordered(documents, found)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As `compress_documents`; awaits."""
        found = await self._ranking.arank(query, [document.page_content for document in documents], self.top_n)
        return _reordered(documents, found)


def _reordered(documents: Sequence[Document], found: list[tuple[int, float]]) -> list[Document]:
    return [
        documents[i].model_copy(update={"metadata": documents[i].metadata | {"relevance_score": score}})
        for i, score in found
    ]
