"""BGE-M3's dense, sparse and multi-vector embeddings, exact and torch-free, for Milvus.

Importing this package loads nothing heavy: each public name imports its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivec.embedding_function import BGEM3EmbeddingFunction
    from trivec.flag_model import BGEM3FlagModel
    from trivec.model import M3Model
    from trivec.model.async_model import AsyncM3Model
    from trivec.model.m3_reranker import M3Reranker
    from trivec.reranking.flag_reranker import FlagReranker
    from trivec.reranking.rerank_function import BGERerankFunction
    from trivec.search.hits import RerankResult
    from trivec.vectors.embeddings import M3Embedding, M3Embeddings

__version__ = "0.1.0"

_HOME = {
    "AsyncM3Model": "trivec.model.async_model",
    "BGEM3EmbeddingFunction": "trivec.embedding_function",
    "BGEM3FlagModel": "trivec.flag_model",
    "BGERerankFunction": "trivec.reranking.rerank_function",
    "FlagReranker": "trivec.reranking.flag_reranker",
    "M3Embedding": "trivec.vectors.embeddings",
    "M3Embeddings": "trivec.vectors.embeddings",
    "M3Model": "trivec.model",
    "M3Reranker": "trivec.model.m3_reranker",
    "RerankResult": "trivec.search.hits",
}

__all__ = [
    "AsyncM3Model",
    "BGEM3EmbeddingFunction",
    "BGEM3FlagModel",
    "BGERerankFunction",
    "FlagReranker",
    "M3Embedding",
    "M3Embeddings",
    "M3Model",
    "M3Reranker",
    "RerankResult",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trivec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
