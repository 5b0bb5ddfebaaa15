"""Reranking for LlamaIndex: a node postprocessor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from trivec.integrations.ranking import Ranking, ranking
from trivec.model import M3Model
from trivec.support.arguments import whole_number


class TrivecRerank(BaseNodePostprocessor):
    """Puts nodes into the order in which they answer the query; their scores become those by which they are ordered."""

    mode: str = Field(description="What scores the nodes.")
    top_n: int | None = Field(description="How many nodes are given back; all if None.")
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
            top_n: How many nodes are given back; all if None.
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
