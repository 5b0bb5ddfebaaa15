"""`trivec.integrations.langchain` in langchain-milvus' store, on Milvus Lite."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_milvus import Milvus
from pymilvus import Function, FunctionType, MilvusException

import trivec.integrations.langchain
from answers import QUESTION, Demo, assert_same, run_documented
from random_checkpoint import write_random_checkpoint
from trivec import M3Model, M3Reranker
from trivec.errors import MissingHeadError, MissingPackageError
from trivec.integrations.langchain import TrivecEmbeddings, TrivecReranker, TrivecSparseEmbeddings

RRF = Function("rrf", FunctionType.RERANK, [], params={"reranker": "rrf", "k": 60})
# What docs/integrations.md says to set.
ON_LITE: dict[str, Any] = {
    "index_params": [
        {"index_type": "FLAT", "metric_type": "IP"},
        {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"},
    ],
    "search_params": [{"metric_type": "IP"}, {"metric_type": "IP"}],
}


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., Milvus]]:
    made: list[Milvus] = []

    def make(model: M3Model | str, **options: Any) -> Milvus:
        made.append(
            Milvus(
                [TrivecEmbeddings(model), TrivecSparseEmbeddings(model)],
                vector_field=["dense", "sparse"],
                connection_args={"uri": str(tmp_path / "milvus.db")},
                **options,
            )
        )
        return made[-1]

    yield make
    for store in made:
        store.client.close()


@pytest.fixture
def in_langchain(documents: list[dict[str, Any]]) -> list[Document]:
    return [
        Document(page_content=each["text"], id=each["id"], metadata={"language": each["language"]})
        for each in documents
    ]


def by_id(found: list[tuple[Document, float]]) -> list[tuple[str, float]]:
    return [(document.metadata["pk"], score) for document, score in found]


def by_text(best: Sequence[Document]) -> list[tuple[str, float]]:
    return [(document.page_content, document.metadata["relevance_score"]) for document in best]


def test_index_search_rerank_delete_with_one_pass_a_text(
    model: M3Model, passes: list[int], demo: Demo, in_langchain: list[Document], make_store: Callable[..., Milvus]
):
    passes.clear()
    store = make_store(model, **ON_LITE)
    store.add_documents(in_langchain, ids=[document.id for document in in_langchain])
    assert passes == [40]  # for dense and sparse vectors
    passes.clear()
    found = store.similarity_search_with_score(QUESTION, k=10, fetch_k=20, reranker=RRF)
    assert passes == [1]
    demo.assert_found(by_id(found))

    passes.clear()
    best = TrivecReranker(model, top_n=3).compress_documents([document for document, _ in found], QUESTION)
    assert passes == [11]  # the query once
    demo.assert_reranked(by_text(best), [document.page_content for document, _ in found])
    assert best[0].metadata["pk"] == "compass-zh"
    assert "relevance_score" not in found[0][0].metadata  # the documents given are as they were

    store.delete(["compass-zh"])
    left = store.similarity_search(QUESTION, k=40, fetch_k=40, reranker=RRF)
    assert len(left) == 39
    assert "compass-zh" not in {document.metadata["pk"] for document in left}


def test_on_a_server(
    url: str,
    texts_computed: Callable[[], int],
    demo: Demo,
    in_langchain: list[Document],
    make_store: Callable[..., Milvus],
):
    store = make_store(url, **ON_LITE)
    before = texts_computed()
    store.add_documents(in_langchain, ids=[document.id for document in in_langchain])
    found = store.similarity_search_with_score(QUESTION, k=10, fetch_k=20, reranker=RRF)
    assert texts_computed() - before == 41
    demo.assert_found(by_id(found))
    best = TrivecReranker(url, top_n=1).compress_documents([document for document, _ in found], QUESTION)
    assert best[0].metadata["pk"] == "compass-zh"


def test_awaited(
    model: M3Model, passes: list[int], demo: Demo, in_langchain: list[Document], make_store: Callable[..., Milvus]
):
    async def work() -> tuple[list[tuple[Document, float]], list[Document]]:
        store = make_store(model, **ON_LITE)
        await store.aadd_documents(in_langchain, ids=[document.id for document in in_langchain])
        found = await store.asimilarity_search_with_score(QUESTION, k=10, fetch_k=20, reranker=RRF)
        return found, await TrivecReranker(model, top_n=3).acompress_documents([each for each, _ in found], QUESTION)

    passes.clear()
    found, best = asyncio.run(work())
    assert sum(passes) == 40 + 1 + 11
    demo.assert_found(by_id(found))
    assert best[0].metadata["pk"] == "compass-zh"


@pytest.mark.parametrize("on_server", [False, True])
def test_one_pass_serves_calls_that_are_under_way_together(on_server: bool, url: str, model: M3Model, passes: list):
    chosen = url if on_server else model
    dense, sparse = TrivecEmbeddings(chosen), TrivecSparseEmbeddings(chosen)

    async def both() -> list[Any]:
        return await asyncio.gather(dense.aembed_query(QUESTION), sparse.aembed_query(QUESTION))

    for _ in range(2):  # each time in a loop of its own
        passes.clear()
        vector, weights = asyncio.run(both())
        assert passes == ([] if on_server else [1])
        alone = model.encode([QUESTION])
        assert_same(vector, alone.dense[0])
        assert weights.keys() == set(alone.sparse[0].indices.tolist())


def test_as_a_compressor_of_a_retriever(
    model: M3Model, in_langchain: list[Document], make_store: Callable[..., Milvus]
):
    store = make_store(model, **ON_LITE)
    store.add_documents(in_langchain, ids=[document.id for document in in_langchain])
    retriever = ContextualCompressionRetriever(
        base_compressor=TrivecReranker(model, top_n=2),
        base_retriever=store.as_retriever(search_kwargs={"k": 10, "fetch_k": 10, "reranker": RRF}),
    )
    for found in (retriever.invoke(QUESTION), asyncio.run(retriever.ainvoke(QUESTION))):
        assert len(found) == 2
        assert found[0].metadata["pk"] == "compass-zh"


def test_one_model_a_name():
    dense, sparse = TrivecEmbeddings("nano", precision="fp32"), TrivecSparseEmbeddings("nano", precision="fp32")
    assert dense.model is sparse.model
    assert TrivecEmbeddings("nano").model is not dense.model  # loaded otherwise


def test_texts_that_are_repeated(model: M3Model, passes: list[int]):
    dense, sparse = TrivecEmbeddings(model), TrivecSparseEmbeddings(model)
    texts = ["a boat", "a lake", "a boat", ""]
    passes.clear()
    vectors, weights = dense.embed_documents(texts), sparse.embed_documents(texts)
    assert passes == [3]
    assert_same(vectors, model.encode(texts).dense)
    assert weights[0] == weights[2] != weights[1]
    assert weights[3] == {}
    assert dense.embed_documents([]) == sparse.embed_documents([]) == []


def test_what_is_wrong_is_said(model: M3Model):
    with pytest.raises(ValueError, match="'bm25' is not one of 'colbert'"):
        TrivecReranker(model, mode="bm25")
    with pytest.raises(ValueError, match="top_n=0"):
        TrivecReranker(model, top_n=0)
    with pytest.raises(TypeError, match="precision cannot be given"):
        TrivecEmbeddings(model, precision="int8")
    assert TrivecReranker(model).compress_documents([], QUESTION) == []


def test_a_model_without_the_head(tmp_path: Path):
    folder = write_random_checkpoint(tmp_path / "tiny")
    (folder / "sparse_linear.pt").unlink()
    (folder / "colbert_linear.pt").unlink()
    TrivecEmbeddings(folder)
    with pytest.raises(MissingHeadError, match=r"sparse_linear\.pt"):
        TrivecSparseEmbeddings(folder)
    with pytest.raises(MissingHeadError, match=r"colbert_linear\.pt"):
        TrivecReranker(folder)


def test_without_the_line_of_the_documentation_lite_refuses(
    model: M3Model, in_langchain: list[Document], make_store: Callable[..., Milvus]
):
    store = make_store(model)
    store.add_documents(in_langchain, ids=[document.id for document in in_langchain])
    with pytest.raises(MilvusException, match="drop_ratio_build=0"):
        store.similarity_search(QUESTION, k=3, reranker=RRF)
    indexes = {name: store.client.describe_index(store.collection_name, name) for name in ("dense", "sparse")}
    assert indexes["dense"]["metric_type"] == "L2"


def test_the_missing_store_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "langchain_milvus", None)
    with pytest.raises(MissingPackageError, match="pip install langchain-milvus`"):
        _ = trivec.integrations.langchain.TrivecSparseEmbeddings


def test_what_the_documentation_says(model: M3Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names = run_documented("langchain", model.dim["dense"])
    store = names["store"]
    assert names["best"][0].metadata["pk"] == "boat"
    assert len(store.client.query(store.collection_name, filter='pk != ""')) == 1  # the other is deleted
    store.client.close()


def test_by_a_cross_encoder(
    tiny_reranker: M3Reranker, tiny_reranker_checkpoint: Path, demo: Demo, in_langchain: list[Document]
):
    ranker = TrivecReranker(tiny_reranker_checkpoint, mode="cross-encoder", top_n=3, precision="fp32")
    demo.assert_reranked_by(tiny_reranker, by_text(ranker.compress_documents(in_langchain, QUESTION)))
