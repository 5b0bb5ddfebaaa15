"""LlamaIndex: dense and sparse embeddings of one model in one pass, and a reranker. Needs llama-index-core.

Example:
    >>> from llama_index.vector_stores.milvus import MilvusVectorStore  # doctest: +SKIP
    >>> from trivec.integrations.llama_index import TrivecEmbedding, TrivecRerank, TrivecSparseEmbedding
    >>> store = MilvusVectorStore(  # doctest: +SKIP
    ...     "milvus.db", dim=1024, enable_sparse=True, sparse_embedding_function=TrivecSparseEmbedding("BAAI/bge-m3")
    ... )
    >>> Settings.embed_model = TrivecEmbedding("BAAI/bge-m3")  # doctest: +SKIP

`TrivecSparseEmbedding` needs llama-index-vector-stores-milvus besides, whose interface it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivec.support.extras import require_package

require_package("llama_index.core", "llama-index-core", __name__)

from trivec.integrations.llama_index.embedding import TrivecEmbedding
from trivec.integrations.llama_index.rerank import TrivecRerank

if TYPE_CHECKING:
    from trivec.integrations.llama_index.sparse import TrivecSparseEmbedding

__all__ = ["TrivecEmbedding", "TrivecRerank", "TrivecSparseEmbedding"]


def __getattr__(name: str) -> Any:
    if name == "TrivecSparseEmbedding":
        require_package("llama_index.vector_stores.milvus", "llama-index-vector-stores-milvus", f"{__name__}.{name}")
        from trivec.integrations.llama_index.sparse import TrivecSparseEmbedding

        return TrivecSparseEmbedding
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
