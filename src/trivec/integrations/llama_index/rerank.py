"""Reranking for LlamaIndex: a node postprocessor."""

from __future__ import annotations

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from trivec.integrations.reranker import Reranker


class TrivecRerank(Reranker, BaseNodePostprocessor):
    """Puts nodes into the order in which they answer the query; their scores become those by which they are ordered.

    Attributes:
        mode: What scores them.
        top_n: How many of them are given back; all if None.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex knows this by."""
        return "TrivecRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return _reordered(nodes, self._ranking.rank(_query(query_bundle), _texts(nodes), self.top_n))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return _reordered(nodes, await self._ranking.arank(_query(query_bundle), _texts(nodes), self.top_n))


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise ValueError("TrivecRerank needs the query: give postprocess_nodes query_str= or query_bundle=")
    return str(query_bundle.query_str)


def _texts(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _reordered(nodes: list[NodeWithScore], found: list[tuple[int, float]]) -> list[NodeWithScore]:
    return [NodeWithScore(node=nodes[i].node, score=score) for i, score in found]
