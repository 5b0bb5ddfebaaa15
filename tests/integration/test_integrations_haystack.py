"""`trivec.integrations.haystack` with milvus-haystack's store, on Milvus Lite."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read on import: tests report to nobody

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.core.errors import DeserializationError
from haystack.utils import Secret
from milvus_haystack import MilvusDocumentStore
from milvus_haystack.milvus_embedding_retriever import MilvusHybridRetriever

from answers import KEY, QUESTION, Demo, assert_same, run_documented
from trivec import M3Model, M3Reranker
from trivec.errors import ServerError
from trivec.integrations.haystack import (
    TrivecDocumentEmbedder,
    TrivecRanker,
    TrivecSparseDocumentEmbedder,
    TrivecSparseTextEmbedder,
    TrivecTextEmbedder,
)

ASKED = {"dense": {"text": QUESTION}, "sparse": {"text": QUESTION}, "ranker": {"query": QUESTION}}
# What docs/integrations.md says to write.
ALLOWED = ["trivec.integrations.*", "milvus_haystack.*", "pymilvus.*"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MilvusDocumentStore]:
    made = MilvusDocumentStore(
        connection_args={"uri": str(tmp_path / "milvus.db")},
        sparse_vector_field="sparse",
        index_params={"index_type": "FLAT", "metric_type": "IP"},  # as docs/integrations.md says
    )
    yield made
    made.client.close()


@pytest.fixture
def in_haystack(documents: list[dict[str, Any]]) -> list[Document]:
    return [Document(content=each["text"], id=each["id"], meta={"title": each["title"]}) for each in documents]


def indexing(store: MilvusDocumentStore, model: M3Model | str, **options: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("dense", TrivecDocumentEmbedder(model, **options))
    pipeline.add_component("sparse", TrivecSparseDocumentEmbedder(model, **options))
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("dense", "sparse")
    pipeline.connect("sparse", "writer")
    return pipeline


def searching(store: MilvusDocumentStore, model: M3Model | str) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("dense", TrivecTextEmbedder(model))
    pipeline.add_component("sparse", TrivecSparseTextEmbedder(model))
    pipeline.add_component("retriever", MilvusHybridRetriever(store, top_k=20))
    pipeline.add_component("ranker", TrivecRanker(model, top_k=3))
    pipeline.connect("dense.embedding", "retriever.query_embedding")
    pipeline.connect("sparse.sparse_embedding", "retriever.query_sparse_embedding")
    pipeline.connect("retriever", "ranker")
    return pipeline


def by_id(found: list[Document]) -> list[tuple[str, float]]:
    return [(document.id, document.score) for document in found]


def by_text(found: list[Document]) -> list[tuple[str, float]]:
    return [(document.content, document.score) for document in found]


def test_index_search_rerank_delete_with_one_pass_a_text(
    model: M3Model, passes: list[int], demo: Demo, in_haystack: list[Document], store: MilvusDocumentStore
):
    passes.clear()
    written = indexing(store, model).run({"dense": {"documents": in_haystack}})
    assert written == {"writer": {"documents_written": 40}}
    assert passes == [40]  # for dense and sparse vectors
    assert in_haystack[0].embedding is None  # the documents given are as they were

    passes.clear()
    answer = searching(store, model).run(ASKED, include_outputs_from={"retriever"})
    found, best = answer["retriever"]["documents"], answer["ranker"]["documents"]
    assert passes == [1, len(found) + 1]
    demo.assert_found(by_id(found))
    demo.assert_reranked(by_text(best), [document.content for document in found])
    assert best[0].id == "compass-zh"

    store.delete_documents(["compass-zh"])
    left = searching(store, model).run(ASKED)["ranker"]["documents"]
    assert store.count_documents() == 39
    assert "compass-zh" not in {document.id for document in left}


def test_on_a_server(
    url: str,
    texts_computed: Callable[[], int],
    demo: Demo,
    in_haystack: list[Document],
    store: MilvusDocumentStore,
):
    before = texts_computed()
    indexing(store, url).run({"dense": {"documents": in_haystack}})
    assert texts_computed() - before == 40
    answer = searching(store, url).run(ASKED, include_outputs_from={"retriever"})
    demo.assert_found(by_id(answer["retriever"]["documents"]))
    assert answer["ranker"]["documents"][0].id == "compass-zh"


def test_awaited_with_both_embedders_at_once(
    model: M3Model, passes: list[int], demo: Demo, in_haystack: list[Document], store: MilvusDocumentStore
):
    async def work() -> dict[str, Any]:
        dense, sparse = TrivecDocumentEmbedder(model), TrivecSparseDocumentEmbedder(model)
        for embedder in (dense, sparse):  # as a pipeline does
            await embedder.warm_up_async()
        embedded = await sparse.run_async((await dense.run_async(in_haystack))["documents"])
        store.write_documents(embedded["documents"])  # it has no other way
        return await searching(store, model).run_async(ASKED, include_outputs_from={"retriever"})

    passes.clear()
    answer = asyncio.run(work())
    found = answer["retriever"]["documents"]
    assert sum(passes) == 40 + 1 + len(found) + 1
    demo.assert_found(by_id(found))
    assert answer["ranker"]["documents"][0].id == "compass-zh"


def test_a_pipeline_is_stored_and_read(in_haystack: list[Document], store: MilvusDocumentStore):
    with M3Model.load("nano", precision="fp32") as model:  # its name and precision are stored
        indexing(store, model).run({"dense": {"documents": in_haystack}})
        pipeline = searching(store, model)
        first = pipeline.run(ASKED)["ranker"]["documents"]
        stored = pipeline.dumps()
    with pytest.raises(DeserializationError, match="trivec"):
        Pipeline.loads(stored)
    again = Pipeline.loads(stored, allowed_modules=ALLOWED)
    assert again.to_dict()["components"] == pipeline.to_dict()["components"]
    assert by_id(again.run(ASKED)["ranker"]["documents"]) == by_id(first)
    again.close()


def test_every_parameter_is_stored():
    made = TrivecRanker(
        "nano",
        top_k=2,
        api_key=Secret.from_env_var("MY_KEY", strict=False),
        load_options={"max_length": 64},
        meta_fields_to_embed=["title"],
        embedding_separator=" | ",
    )
    again = TrivecRanker.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict()
    assert (again.top_k, again.mode, again.load_options) == (2, "colbert", {"max_length": 64})
    assert again.api_key == made.api_key


def test_metadata_are_read_on_request(model: M3Model, in_haystack: list[Document]):
    embedder = TrivecDocumentEmbedder(model, meta_fields_to_embed=["title", "missing"], embedding_separator=": ")
    made = embedder.run(in_haystack[:2])["documents"]
    texts = [f"{document.meta['title']}: {document.content}" for document in in_haystack[:2]]
    assert_same([document.embedding for document in made], model.encode(texts).dense)
    sparse = TrivecSparseDocumentEmbedder(model).run(in_haystack[:1])["documents"][0].sparse_embedding
    assert set(sparse.indices) == set(model.encode([in_haystack[0].content]).sparse[0].indices.tolist())
    empty = TrivecDocumentEmbedder(model).run([Document(content=None)])["documents"]
    assert_same([empty[0].embedding], model.encode([""]).dense)
    assert TrivecDocumentEmbedder(model).run([]) == {"documents": []}


def test_the_key_of_a_server(guarded_url: str, model: M3Model, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ServerError, match="key"):
        TrivecTextEmbedder(guarded_url).warm_up()
    given = TrivecTextEmbedder(guarded_url, api_key=Secret.from_token(KEY)).run("a boat")["embedding"]
    assert_same(given, model.encode(["a boat"]).dense[0])
    monkeypatch.setenv("TRIVEC_API_KEY", KEY)
    assert TrivecTextEmbedder(guarded_url).run("a boat")["embedding"] == given


def test_what_is_wrong_is_said(model: M3Model, in_haystack: list[Document]):
    with pytest.raises(ValueError, match="'bm25' is not one of 'colbert'"):
        TrivecRanker(model, mode="bm25")
    with pytest.raises(ValueError, match="top_k=0"):
        TrivecRanker(model).run(QUESTION, in_haystack, top_k=0)
    with pytest.raises(TypeError, match="document embedders"):
        TrivecTextEmbedder(model).run(in_haystack)
    with pytest.raises(TypeError, match="text embedders"):
        TrivecSparseDocumentEmbedder(model).run(QUESTION)
    assert TrivecRanker(model).run(QUESTION, []) == {"documents": []}


def test_what_the_documentation_says(model: M3Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names = run_documented("haystack", model.dim["dense"])
    store = names["store"]
    assert names["best"][0].id == "boat"
    assert len(store.filter_documents()) == 1  # the other is deleted
    store.client.close()


def test_by_a_cross_encoder(
    tiny_reranker: M3Reranker, tiny_reranker_checkpoint: Path, demo: Demo, in_haystack: list[Document]
):
    ranker = TrivecRanker(tiny_reranker, mode="cross-encoder", top_k=3)
    again = TrivecRanker.from_dict(ranker.to_dict())
    assert again.model == str(tiny_reranker_checkpoint)
    demo.assert_reranked_by(tiny_reranker, by_text(again.run(QUESTION, in_haystack)["documents"]))
