"""The vectors of a query, for Haystack."""

from __future__ import annotations

from typing import Any

from haystack import component
from haystack.dataclasses import SparseEmbedding

from trivec.integrations.haystack.embedders import Embedder
from trivec.integrations.haystack.sparse_vectors import sparse_embedding


@component
class TrivecTextEmbedder(Embedder):
    """Gives a query's dense vector, of length 1.

    Where a `TrivecSparseTextEmbedder` of the same model is in the process, one pass serves both.
    """

    kind = "dense"

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return {"embedding": the text's vector}."""
        return {"embedding": self.loaded().dense([_checked(text)])[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """As `run`; awaits."""
        return {"embedding": (await self.loaded().adense([_checked(text)]))[0]}


@component
class TrivecSparseTextEmbedder(Embedder):
    """Gives a query's sparse vector: lexical weights by token id.

    Where a `TrivecTextEmbedder` of the same model is in the process, one pass serves both.
    """

    kind = "sparse"

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, Any]:
        """Return {"sparse_embedding": the text's vector}."""
        return {"sparse_embedding": sparse_embedding(self.loaded().sparse([_checked(text)])[0])}

    @component.output_types(sparse_embedding=SparseEmbedding)
    async def run_async(self, text: str) -> dict[str, Any]:
        """As `run`; awaits."""
        return {"sparse_embedding": sparse_embedding((await self.loaded().asparse([_checked(text)]))[0])}


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text={text!r:.60} must be a str; for documents there are document embedders")
    return text
