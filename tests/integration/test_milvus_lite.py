"""Milvus Lite calls the server by itself: it embeds what is inserted and asked, and reranks what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException

from answers import KEY, assert_best_first, assert_same
from trivec import M3Model


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[MilvusClient]:
    client = MilvusClient(str(tmp_path / "milvus.db"))
    yield client
    client.close()


def create(milvus: MilvusClient, url: str, dim: int, key: str = "none") -> None:
    """Make the collection "texts", whose field "dense" is what the server says of the field "text"."""
    schema = milvus.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=10_000)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dim)
    params = {"provider": "openai", "model_name": "bge-m3", "base_url": f"{url}/v1", "api_key": key, "dimensions": dim}
    schema.add_function(Function("embed", FunctionType.TEXTEMBEDDING, ["text"], ["dense"], params=params))
    index = milvus.prepare_index_params()
    index.add_index("dense", index_type="FLAT", metric_type="IP")
    milvus.create_collection("texts", schema=schema, index_params=index)


def reranker(url: str, *queries: str, key: str = "none") -> Function:
    params = {"provider": "cohere", "model_name": "bge-m3", "base_url": f"{url}/v2", "api_key": key}
    asked = {"reranker": "model", "queries": list(queries)}
    return Function("rerank", FunctionType.RERANK, ["text"], params=params | asked)


def rows(texts: list[str]) -> list[dict]:
    return [{"id": i, "text": text} for i, text in enumerate(texts)]


def test_insert_and_search_by_text(milvus: MilvusClient, url: str, texts: list[str], dense: np.ndarray):
    texts, dense = texts[:-1], dense[:-1]  # Milvus Lite itself gives an empty text a vector of zeros
    create(milvus, url, dense.shape[1])
    assert milvus.insert("texts", rows(texts))["insert_count"] == len(texts)
    stored = {row["id"]: row["dense"] for row in milvus.query("texts", filter="id >= 0", output_fields=["dense"])}
    assert_same([stored[i] for i in range(len(texts))], dense)
    queries = [2, 9]
    found = milvus.search("texts", data=[texts[i] for i in queries], anns_field="dense", limit=5)
    for i, hits in zip(queries, found, strict=True):
        assert_best_first([(hit["id"], hit["distance"]) for hit in hits], dense @ dense[i])
        assert len(hits) == 5


def test_search_results_are_reranked(milvus: MilvusClient, url: str, model: M3Model, texts: list[str]):
    texts = [*texts[:40], ""]
    create(milvus, url, model.dim["dense"])
    milvus.insert("texts", rows(texts))
    queries = ["Who crossed the lake in a boat?", "Which bridge is the oldest?"]
    found = milvus.search("texts", data=queries, anns_field="dense", limit=5, ranker=reranker(url, *queries))
    for query, hits in zip(queries, found, strict=True):
        scores = np.array(model.compute_score([(query, text) for text in texts])["colbert"])
        assert_best_first([(hit["id"], hit["distance"]) for hit in hits], scores)
        assert len(hits) == 5


def test_with_a_key(milvus: MilvusClient, guarded_url: str, texts: list[str], dense: np.ndarray):
    create(milvus, guarded_url, dense.shape[1], KEY)
    milvus.insert("texts", rows(texts[:4]))
    (hits,) = milvus.search(
        "texts", data=[texts[2]], anns_field="dense", limit=4, ranker=reranker(guarded_url, texts[2], key=KEY)
    )
    assert hits[0]["id"] == 2
    with pytest.raises(MilvusException, match=r"401.*key"):
        milvus.search("texts", data=["a"], anns_field="dense", limit=4, ranker=reranker(guarded_url, "a", key="wrong"))


def test_the_servers_message_is_told(milvus: MilvusClient, guarded_url: str, texts: list[str], dense: np.ndarray):
    create(milvus, guarded_url, dense.shape[1], KEY)
    with pytest.raises(MilvusException, match=r"\b5\b.*\b4\b"):
        milvus.insert("texts", rows(texts[:5]))
    assert milvus.query("texts", filter="id >= 0") == []
