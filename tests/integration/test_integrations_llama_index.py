"""`trivec.integrations.llama_index` in LlamaIndex's store, on Milvus Lite."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.vector_stores.milvus import MilvusVectorStore
from pymilvus import MilvusException

import trivec.integrations.llama_index
from answers import QUESTION, Demo, assert_same, run_documented
from trivec import M3Model, M3Reranker
from trivec.errors import MissingPackageError
from trivec.integrations.llama_index import TrivecEmbedding, TrivecRerank, TrivecSparseEmbedding


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., MilvusVectorStore]]:
    made: list[MilvusVectorStore] = []

    def make(model: M3Model | str, dim: int) -> MilvusVectorStore:
        made.append(
            MilvusVectorStore(
                str(tmp_path / f"milvus-{len(made)}.db"),
                dim=dim,
                enable_sparse=True,
                sparse_embedding_function=TrivecSparseEmbedding(model),
                hybrid_ranker="RRFRanker",
            )
        )
        return made[-1]

    yield make
    for store in made:
        store.client.close()


@pytest.fixture
def nodes(documents: list[dict[str, Any]]) -> list[TextNode]:
    return [TextNode(text=each["text"], id_=each["id"]) for each in documents]


@pytest.fixture
def nodes_with_metadata(documents: list[dict[str, Any]]) -> list[TextNode]:
    return [
        TextNode(text=each["text"], id_=each["id"], metadata={"title": each["title"], "language": each["language"]})
        for each in documents
    ]


def indexed(store: MilvusVectorStore, nodes: list[TextNode], model: M3Model | str, **options: Any) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=TrivecEmbedding(model), **options)


def by_id(found: list[NodeWithScore]) -> list[tuple[str, float]]:
    return [(each.node.node_id, each.score) for each in found]


def by_text(best: list[NodeWithScore]) -> list[tuple[str, float]]:
    return [(each.node.get_content(), each.score) for each in best]


def test_index_search_rerank_delete_with_one_pass_a_text(
    model: M3Model,
    passes: list[int],
    demo: Demo,
    nodes: list[TextNode],
    make_store: Callable[..., MilvusVectorStore],
):
    passes.clear()
    store = make_store(model, model.dim["dense"])
    index = indexed(store, nodes, model)
    assert passes == [40]  # for dense and sparse vectors, which the store asks for one by one
    passes.clear()
    found = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=20).retrieve(QUESTION)
    assert passes == [1]
    demo.assert_found(by_id(found))

    passes.clear()
    best = TrivecRerank(model, top_n=3).postprocess_nodes(found, query_str=QUESTION)
    assert passes == [len(found) + 1]  # the query once
    demo.assert_reranked(by_text(best), [each.node.get_content() for each in found])
    assert best[0].node.node_id == "compass-zh"

    index.delete_nodes(["compass-zh"])
    left = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=40).retrieve(QUESTION)
    assert len(left) == 39
    assert "compass-zh" not in {each.node.node_id for each in left}


def test_metadata_make_two_texts_a_node_in_a_pass_each(
    model: M3Model,
    passes: list[int],
    nodes_with_metadata: list[TextNode],
    demo: Demo,
    make_store: Callable[..., MilvusVectorStore],
):
    passes.clear()
    store = make_store(model, model.dim["dense"])
    indexed(store, nodes_with_metadata, model)
    # Dense vectors of title, language and text together, sparse ones of the text: the store decides.
    assert passes == [40, 40]
    rows = store.client.query(store.collection_name, filter='id == "tides-en"', output_fields=["sparse_embedding"])
    ids = [node.node_id for node in nodes_with_metadata]
    assert rows[0]["sparse_embedding"].keys() == set(demo.encoded.sparse[ids.index("tides-en")].indices.tolist())


def test_metadata_that_are_not_embedded_cost_no_pass(
    model: M3Model,
    passes: list[int],
    nodes_with_metadata: list[TextNode],
    make_store: Callable[..., MilvusVectorStore],
):
    for node in nodes_with_metadata:
        node.excluded_embed_metadata_keys = ["title", "language"]
    passes.clear()
    indexed(make_store(model, model.dim["dense"]), nodes_with_metadata, model)
    assert passes == [40]


def test_on_a_server(
    url: str,
    model: M3Model,
    texts_computed: Callable[[], int],
    demo: Demo,
    nodes: list[TextNode],
    make_store: Callable[..., MilvusVectorStore],
):
    before = texts_computed()
    index = indexed(make_store(url, model.dim["dense"]), nodes, url)
    found = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=20).retrieve(QUESTION)
    assert texts_computed() - before == 41
    demo.assert_found(by_id(found))
    best = TrivecRerank(url, top_n=1).postprocess_nodes(found, query_str=QUESTION)
    assert best[0].node.node_id == "compass-zh"


def test_awaited(
    model: M3Model,
    passes: list[int],
    demo: Demo,
    nodes: list[TextNode],
    make_store: Callable[..., MilvusVectorStore],
):
    async def work() -> tuple[list[NodeWithScore], list[NodeWithScore]]:
        store = make_store(model, model.dim["dense"])
        index = indexed(store, [], model)
        await index.ainsert_nodes(nodes)
        found = await index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=20).aretrieve(QUESTION)
        return found, await TrivecRerank(model, top_n=3).apostprocess_nodes(found, query_str=QUESTION)

    passes.clear()
    found, best = asyncio.run(work())
    assert sum(passes) == 40 + 1 + len(found) + 1
    demo.assert_found(by_id(found))
    assert best[0].node.node_id == "compass-zh"


def test_vectors_are_the_models(model: M3Model, texts: list[str], dense: np.ndarray):
    embedding, sparse = TrivecEmbedding(model), TrivecSparseEmbedding(model)
    assert_same(embedding.get_text_embedding_batch(texts), dense)
    assert_same([embedding.get_query_embedding(texts[0]), embedding.get_text_embedding(texts[1])], dense[:2])
    weights = model.encode(texts[:2], return_dense=False).sparse
    for given in (
        sparse.encode_queries(texts[:2]),
        sparse.encode_documents(texts[:2]),
        asyncio.run(sparse.async_encode_documents(texts[:2])),
    ):
        assert [each.keys() for each in given] == [set(row.indices.tolist()) for row in weights]


def test_stored_and_sent_to_other_processes():
    embedding = TrivecEmbedding("nano", load_options={"precision": "fp32"})
    stored = embedding.to_dict()
    assert stored["model_name"] == "nano"
    again = TrivecEmbedding.from_dict(stored)
    assert again.to_dict() == stored
    assert again.get_text_embedding("a boat") == embedding.get_text_embedding("a boat")
    sent = pickle.loads(pickle.dumps(embedding))
    assert_same(sent.get_text_embedding("a boat"), np.array(embedding.get_text_embedding("a boat")))
    assert "secret" not in repr(TrivecEmbedding.to_payload(embedding))


def test_what_is_wrong_is_said(model: M3Model, nodes: list[TextNode]):
    with pytest.raises(ValueError, match="'bm25' is not one of 'colbert'"):
        TrivecRerank(model, mode="bm25")
    with pytest.raises(ValueError, match="query_str"):
        TrivecRerank(model).postprocess_nodes([NodeWithScore(node=nodes[0])])
    with pytest.raises(TypeError, match="precision cannot be given"):
        TrivecSparseEmbedding(model, precision="int8")
    assert TrivecRerank(model).postprocess_nodes([], query_str=QUESTION) == []


def test_the_sparse_mode_of_the_store_is_not_for_lite(
    model: M3Model,
    demo: Demo,
    nodes: list[TextNode],
    make_store: Callable[..., MilvusVectorStore],
):
    # It asks Milvus to leave out the smallest weights, which only a server does.
    store = make_store(model, model.dim["dense"])
    index = indexed(store, nodes, model)
    with pytest.raises(MilvusException, match="drop_ratio_search=0"):
        index.as_retriever(vector_store_query_mode="sparse").retrieve(QUESTION)
    # What docs/integrations.md says to do instead.
    store.hybrid_ranker, store.hybrid_ranker_params = "WeightedRanker", {"weights": [0.0, 1.0]}
    found = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=3).retrieve(QUESTION)
    sparse = (demo.encoded.sparse @ model.encode([QUESTION]).sparse.T).toarray()[:, 0]
    best = [demo.documents[i]["id"] for i in np.argsort(-sparse, kind="stable")[:3]]
    assert [each.node.node_id for each in found] == best


def test_the_missing_store_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "llama_index.vector_stores.milvus", None)
    with pytest.raises(MissingPackageError, match="pip install llama-index-vector-stores-milvus`"):
        _ = trivec.integrations.llama_index.TrivecSparseEmbedding


def test_what_the_documentation_says(model: M3Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names = run_documented("llama-index", model.dim["dense"])
    store = names["store"]
    assert names["best"][0].node.node_id == "boat"
    assert len(store.get_nodes(node_ids=["boat", "bridge"])) == 1  # the other is deleted
    store.client.close()


def test_by_a_cross_encoder(
    tiny_reranker: M3Reranker, tiny_reranker_checkpoint: Path, demo: Demo, nodes: list[TextNode]
):
    ranker = TrivecRerank(tiny_reranker_checkpoint, mode="cross-encoder", top_n=3, precision="fp32")
    best = ranker.postprocess_nodes([NodeWithScore(node=node) for node in nodes], query_str=QUESTION)
    demo.assert_reranked_by(tiny_reranker, by_text(best))
