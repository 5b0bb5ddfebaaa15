"""A collection that keeps token vectors on a server, made and searched: against a stand-in (`struct_server`)."""

import numpy as np
import pytest

from sample_texts import SENTENCES
from struct_server import struct_server
from trivec import M3Model
from trivec.milvus import M3Collection, MilvusError, table

TEXTS = [text for language in SENTENCES.values() for text in language][:24]
QUERY = "Which bridge was built first?"
DOCUMENTS = [{"id": str(i), "text": text, "metadata": {"number": i}} for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module", params=[("fp16", "v2.6.4"), ("fp16", "v3.0.0"), ("int8", "v3.0.0")], ids=" ".join)
def served(request, tiny_model, tmp_path_factory):
    form, version = request.param
    with (
        struct_server(tmp_path_factory.mktemp("server") / "s.db", version) as (server, uri),
        M3Collection("c", tiny_model, uri=uri, token_vectors=form) as collection,
    ):
        collection.add(DOCUMENTS, show_progress=False)
        yield server, collection


@pytest.fixture(scope="module")
def exact(tiny_model):
    """The three scores of each text for QUERY, from the model alone."""
    (query,) = tiny_model.encode([QUERY], return_colbert_vecs=True)
    return {
        text: (
            M3Model.dense_score(query.dense, own.dense),
            M3Model.lexical_score(query.sparse, own.sparse),
            M3Model.colbert_score(query.colbert_vecs, own.colbert_vecs),
        )
        for text, own in zip(TEXTS, tiny_model.encode(TEXTS, return_colbert_vecs=True), strict=True)
    }


def within(collection):
    return 1e-3 if collection.token_vectors == "fp16" else 1e-2


def test_multi_is_the_servers_sum_divided_by_the_querys_tokens(served, exact):
    server, collection = served
    assert server.indexes.keys() == {"token_vectors[vector]"}
    hits, _ = collection.search([QUERY, TEXTS[3]], "multi", limit=6)
    best = sorted((scores[2] for scores in exact.values()), reverse=True)[:6]
    np.testing.assert_allclose([hit.score for hit in hits], best, atol=within(collection))
    for hit in hits:
        assert abs(hit.score - exact[hit.text][2]) < within(collection)
        assert (hit.colbert_score, hit.dense_score, hit.sparse_score) == (hit.score, None, None)
        assert hit.metadata == {"number": TEXTS.index(hit.text)}
    some = collection.search(QUERY, "multi", limit=6, filter="number < 3")
    assert {hit.metadata["number"] for hit in some} == {0, 1, 2}


def test_all_joins_three_searches(served, exact):
    _, collection = served
    for hit in collection.search(QUERY, "all", limit=6, candidates=12, weights=(1, 0.3, 1)):
        three = exact[hit.text]
        assert (hit.dense_score, hit.sparse_score, hit.colbert_score) == pytest.approx(three, abs=within(collection))
        assert hit.score == pytest.approx(np.dot(three, (1, 0.3, 1)) / 2.3, abs=within(collection))


def test_rerank_reads_the_structs(served, exact, monkeypatch):
    _, collection = served
    monkeypatch.delattr("trivec.milvus.late_interaction.encode_without_warning")  # not one document is encoded
    for hit in collection.search(QUERY, "hybrid", limit=6, rerank="colbert"):
        assert abs(hit.colbert_score - exact[hit.text][2]) < within(collection)


def test_it_is_found_again_and_rows_are_replaced_whole(served, tiny_model):
    server, collection = served
    with M3Collection("c", tiny_model, uri=collection.place, token_vectors=collection.token_vectors) as again:
        again.add([{"id": "0", "text": TEXTS[5]}])
        assert len(server.rows) == len(DOCUMENTS)
        (row,) = again._table.stored_tokens(["0"]).values()
        (own,) = tiny_model.encode([TEXTS[5]], return_colbert_vecs=True).colbert_vecs
        kept = again._table.tokens.vectors(row["token_vectors"], row["text"])
        np.testing.assert_allclose(kept, own, atol=within(collection))
        again.add(DOCUMENTS[:1])


def test_no_request_is_too_large(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_TOKEN_BYTES_PER_REQUEST", 10_000)
    with (
        struct_server(tmp_path / "s.db", "2.6.4") as (server, uri),
        M3Collection("c", tiny_model, uri=uri, token_vectors="fp16") as collection,
    ):
        collection.add(DOCUMENTS, show_progress=False)
        assert len(server.requests) > 2
        assert max(server.requests) < 25_000  # token vectors, and the rest of the same rows
        assert collection.count() == len(DOCUMENTS)


@pytest.mark.parametrize(
    ("form", "version", "said"), [("fp16", "v2.5.4", "since 2.6.4"), ("int8", "2.6.9", "float32 only")]
)
def test_a_server_that_cannot_keep_them_makes_no_collection(tiny_model, tmp_path, form, version, said):
    with (
        struct_server(tmp_path / "s.db", version) as (_, uri),
        M3Collection("c", tiny_model, uri=uri, token_vectors=form) as collection,
    ):
        with pytest.raises(MilvusError, match=said):
            collection.add(DOCUMENTS)
        assert not collection.exists
        assert not collection.client.has_collection("c")
