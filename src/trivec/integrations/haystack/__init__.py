"""Haystack: dense and sparse embedders of texts and documents, one model and one pass for all, and a ranker.

Needs haystack-ai. Any document store with sparse vectors will do; milvus-haystack has Milvus'.

Example:
    >>> from trivec.integrations.haystack import TrivecDocumentEmbedder, TrivecSparseDocumentEmbedder
    >>> indexing = Pipeline()  # doctest: +SKIP
    >>> indexing.add_component("dense", TrivecDocumentEmbedder("BAAI/bge-m3"))  # doctest: +SKIP
    >>> indexing.add_component("sparse", TrivecSparseDocumentEmbedder("BAAI/bge-m3"))  # doctest: +SKIP
    >>> indexing.connect("dense", "sparse")  # doctest: +SKIP
"""

from __future__ import annotations

from trivec.support.extras import require_package

require_package("haystack", "haystack-ai", __name__)

from trivec.integrations.haystack.document_embedders import TrivecDocumentEmbedder, TrivecSparseDocumentEmbedder
from trivec.integrations.haystack.ranker import TrivecRanker
from trivec.integrations.haystack.text_embedders import TrivecSparseTextEmbedder, TrivecTextEmbedder

__all__ = [
    "TrivecDocumentEmbedder",
    "TrivecRanker",
    "TrivecSparseDocumentEmbedder",
    "TrivecSparseTextEmbedder",
    "TrivecTextEmbedder",
]
