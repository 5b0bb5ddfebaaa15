"""`pymilvus.model`: its functions for text-embeddings-inference and for OpenAI, which know no server of ours."""

from __future__ import annotations

import numpy as np
import pytest
from pymilvus.model.dense import OpenAIEmbeddingFunction, TEIEmbeddingFunction
from pymilvus.model.reranker import TEIRerankFunction

from answers import KEY, assert_best_first, assert_same
from trivec import M3Model


def test_tei_embedding_function(url: str, texts: list[str], dense: np.ndarray):
    function = TEIEmbeddingFunction(api_url=url)
    assert function.dim == dense.shape[1]
    assert_same(function.encode_documents(texts), dense)
    assert_same(function.encode_queries(texts[:1]), dense[:1])
    assert_same(TEIEmbeddingFunction(api_url=f"{url}/")(texts[:1]), dense[:1])


def test_tei_embedding_function_tells_the_servers_message(url: str, guarded_url: str):
    with pytest.raises(RuntimeError, match="key"):
        TEIEmbeddingFunction(api_url=guarded_url)(["it sends no key"])
    with pytest.raises(RuntimeError, match="input"):
        TEIEmbeddingFunction(api_url=url)([])


def test_tei_rerank_function(url: str, model: M3Model):
    query = "Who crossed the lake in a boat?"
    documents = [
        "The bridge is old.",
        "A small boat crossed the quiet lake.",
        "Trams run at night.",
        "The lake is deep.",
    ]
    expected = np.array(model.compute_score([(query, text) for text in documents])["colbert"])
    results = TEIRerankFunction(api_url=url)(query, documents)
    assert [result.text for result in results] == [documents[result.index] for result in results]
    assert_best_first([(result.index, result.score) for result in results], expected)
    assert len(results) == len(documents)


def test_tei_rerank_function_tells_the_servers_message(guarded_url: str):
    with pytest.raises(RuntimeError, match="key"):
        TEIRerankFunction(api_url=guarded_url)("it sends no key", ["a"])


def test_openai_embedding_function(guarded_url: str, texts: list[str], dense: np.ndarray):
    function = OpenAIEmbeddingFunction(
        model_name="bge-m3", api_key=KEY, base_url=f"{guarded_url}/v1", dimensions=dense.shape[1]
    )
    assert function.dim == dense.shape[1]
    assert_same(function.encode_documents(texts[:4]), dense[:4])
    assert_same(function.encode_queries(texts[4:8]), dense[4:8])
