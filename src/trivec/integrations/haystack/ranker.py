"""Reranking for Haystack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.utils import Secret

from trivec.integrations.haystack.document_texts import DocumentTexts
from trivec.integrations.haystack.loading import KEY, Loading
from trivec.integrations.ranking import Ranking, checked_mode, ranking
from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.support.arguments import whole_number


@component
class TrivecRanker(DocumentTexts, Loading[Ranking]):
    """Puts documents into the order in which they answer the query; their scores become those they are ordered by."""

    def __init__(
        self,
        model: str | Path | M3Model | M3Reranker | None = None,
        *,
        mode: str = "colbert",
        top_k: int | None = None,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """Note what to load.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model` or `M3Reranker`; None is
                BAAI/bge-m3, or for cross-encoders BAAI/bge-reranker-v2-m3.
            mode: "colbert": BGE-M3's token vectors, of the model that embeds as well. "cross-encoder": a model that
                reads query and document together; on a server the one that it was given with `--reranker`.
            top_k: How many documents are given back; all if None.
            api_key: A server's key, for a URL.
            load_options: Further arguments of `M3Model.load`.
            meta_fields_to_embed: Names of metadata that are read before the content, where a document has them.
            embedding_separator: Stands between these and the content.

        Raises:
            ValueError: `mode` or `top_k` is out of its range.
        """
        Loading.__init__(self, model, api_key, load_options)
        self.mode = checked_mode(mode)
        self.top_k = None if top_k is None else whole_number("top_k", top_k)
        self.read(meta_fields_to_embed, embedding_separator)

    def load(self, **load_options: Any) -> Ranking:
        """Return what orders documents."""
        return ranking(self.model, self.mode, **load_options)

    def own_parameters(self) -> dict[str, Any]:
        """Return how documents are ordered, and which text of them is read."""
        return {"mode": self.mode, "top_k": self.top_k, **DocumentTexts.own_parameters(self)}

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Return {"documents": the `top_k` best, best first}; `top_k` is the constructor's if None."""
        found = self.loaded().rank(query, self.texts(documents), self._limit(top_k))
        return _reordered(documents, found)

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """As `run`; awaits."""
        found = await self.loaded().arank(query, self.texts(documents), self._limit(top_k))
        return _reordered(documents, found)

    def _limit(self, top_k: int | None) -> int | None:
        return self.top_k if top_k is None else whole_number("top_k", top_k)


def _reordered(documents: list[Document], found: list[tuple[int, float]]) -> dict[str, Any]:
    return {"documents": [replace(documents[i], score=score) for i, score in found]}
