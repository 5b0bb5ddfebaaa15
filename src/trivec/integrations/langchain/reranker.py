"""Reranking for LangChain: a compressor of documents, as `ContextualCompressionRetriever` takes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, PrivateAttr

from trivec.integrations.ranking import Ranking, ranking
from trivec.model import M3Model
from trivec.support.arguments import whole_number


class TrivecReranker(BaseDocumentCompressor):
    """Puts documents into the order in which they answer the query; their metadata get a "relevance_score".

    Attributes:
        mode: What scores them.
        top_n: How many of them are given back; all if None.
    """

    model_config = ConfigDict(extra="forbid")

    mode: str = "colbert"
    top_n: int | None = None
    _ranking: Ranking = PrivateAttr()

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        mode: str = "colbert",
        top_n: int | None = None,
        **load_options: Any,
    ) -> None:
        """Load the model, unless this process has it from before.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded model.
            mode: "colbert": BGE-M3's token vectors, of the model that embeds as well. "cross-encoder": a model such as
                BAAI/bge-reranker-v2-m3, which `model` then names, or that of a server.
            top_n: How many documents are given back; all if None.
            **load_options: As of `M3Model.load`.

        Raises:
            ValueError: `mode` or `top_n` is out of its range.
            MissingHeadError: The model gives no token vectors.
            TrivecError: As by `M3Model.load`.
        """
        if top_n is not None:
            top_n = whole_number("top_n", top_n)
        ranks = ranking(model, mode, **load_options)
        super().__init__(mode=mode, top_n=top_n)
        self._ranking = ranks

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
