"""LangChain: dense and sparse embeddings of one model in one pass, and a reranker. Needs langchain-core.

Example:
    >>> from langchain_milvus import Milvus  # doctest: +SKIP
    >>> from trivec.integrations.langchain import TrivecEmbeddings, TrivecReranker, TrivecSparseEmbeddings
    >>> embedding = [TrivecEmbeddings("BAAI/bge-m3"), TrivecSparseEmbeddings("BAAI/bge-m3")]  # doctest: +SKIP
    >>> store = Milvus.from_documents(documents, embedding, vector_field=["dense", "sparse"])  # doctest: +SKIP

`TrivecSparseEmbeddings` needs langchain-milvus besides, whose interface it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivec.support.extras import require_package

require_package("langchain_core", "langchain-core", __name__)

from trivec.integrations.langchain.embeddings import TrivecEmbeddings
from trivec.integrations.langchain.reranker import TrivecReranker

if TYPE_CHECKING:
    from trivec.integrations.langchain.sparse import TrivecSparseEmbeddings

__all__ = ["TrivecEmbeddings", "TrivecReranker", "TrivecSparseEmbeddings"]


def __getattr__(name: str) -> Any:
    if name == "TrivecSparseEmbeddings":
        require_package("langchain_milvus", "langchain-milvus", f"{__name__}.{name}")
        from trivec.integrations.langchain.sparse import TrivecSparseEmbeddings

        return TrivecSparseEmbeddings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
