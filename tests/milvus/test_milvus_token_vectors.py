"""Token vectors kept in a collection on real Milvus Lite, and searches that rank by them, with the tiny model."""

import subprocess
import sys

import numpy as np
import pytest

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.documents import DocumentError
from trivec.errors import CollectionMismatchError, MissingHeadError
from trivec.milvus import M3Collection, MilvusError, late_interaction
from trivec.vectors.pooling import pooled
from trivec.vectors.token_storage import packed, unpacked

TEXTS = [text for language in SENTENCES.values() for text in language]
QUERY = "Which bridge was built first?"
DOCUMENTS = [
    {"id": f"{language}-{number}", "text": text, "metadata": {"lang": language, "number": number}}
    for language, texts in SENTENCES.items()
    for number, text in enumerate(texts)
]
WITHIN = {"fp16": 1e-3, "int8": 1e-2}


@pytest.fixture(scope="module", params=["fp16", "int8"])
def filled(request, tiny_model, tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("lite") / "filled.db")
    with M3Collection("filled", tiny_model, uri=uri, token_vectors=request.param) as opened:
        opened.add(DOCUMENTS, show_progress=False)
        yield opened


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory):
    with M3Collection("plain", tiny_model, uri=str(tmp_path_factory.mktemp("lite") / "plain.db")) as opened:
        opened.add(DOCUMENTS, show_progress=False)
        yield opened


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "test.db")


def exact(tiny_model, texts=TEXTS):
    """MaxSim of QUERY with each text, from the model alone."""
    (query,) = tiny_model.encode([QUERY], return_colbert_vecs=True).colbert_vecs
    vectors = tiny_model.encode(texts, return_colbert_vecs=True).colbert_vecs
    return {text: M3Model.colbert_score(query, own) for text, own in zip(texts, vectors, strict=True)}


def stored(collection, document):
    """The token vectors that a row holds of its own text."""
    (row,) = collection._table.stored_tokens([document]).values()
    return collection._table.tokens.vectors(row["token_vectors"], row["text"])


def test_a_collection_says_how_it_keeps_token_vectors(filled, plain, tiny_model):
    assert (filled.token_vectors, filled.pool) in (("fp16", 1), ("int8", 1))
    assert (plain.token_vectors, plain.pool) == (None, 1)
    (own,) = tiny_model.encode([TEXTS[3]], return_colbert_vecs=True).colbert_vecs
    form = filled.token_vectors
    expected = unpacked(packed(own, form), form, own.shape[1])
    np.testing.assert_allclose(stored(filled, DOCUMENTS[3]["id"]), expected, atol=1e-3 if form == "fp16" else 1e-2)


def test_rerank_reads_what_is_stored_and_scores_as_encoding_again_does(filled, plain, monkeypatch):
    again = plain.search(QUERY, "hybrid", limit=10, candidates=20, rerank="colbert")
    monkeypatch.delattr(late_interaction, "encode_without_warning")  # not one document is encoded
    found = filled.search(QUERY, "hybrid", limit=10, candidates=20, rerank="colbert")
    scores = {hit.id: hit.colbert_score for hit in again}
    assert len(scores.keys() & {hit.id for hit in found}) >= 9  # nearly equal scores may change places at the end
    for hit in found:
        if hit.id in scores:
            assert abs(hit.colbert_score - scores[hit.id]) < WITHIN[filled.token_vectors]


@pytest.mark.parametrize("size", [1, 5, 20])
def test_multi_compares_every_document(filled, tiny_model, size):
    expected = exact(tiny_model)
    hits = filled.search(QUERY, "multi", limit=size)
    assert len(hits) == size
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    within = WITHIN[filled.token_vectors]
    np.testing.assert_allclose([hit.score for hit in hits], sorted(expected.values())[::-1][:size], atol=within)
    for hit in hits:
        assert abs(hit.score - expected[hit.text]) < within
        assert (hit.score, hit.dense_score, hit.sparse_score) == (hit.colbert_score, None, None)
        assert hit.metadata.keys() == {"lang", "number"}


def test_multi_of_many_rows_ranks_the_candidates_of_the_other_two(filled, tiny_model, monkeypatch):
    monkeypatch.setattr(late_interaction, "_MOST_SECONDS", 0.0)
    hits = filled.search(QUERY, "multi", limit=4, candidates=8)
    candidates = {hit.text for mode in ("dense", "sparse") for hit in filled.search(QUERY, mode, limit=8)}
    best = sorted(candidates, key=lambda text: -exact(tiny_model)[text])[:4]
    assert sorted(hit.text for hit in hits) == sorted(best)
    assert all(hit.score == hit.colbert_score and hit.dense_score is None for hit in hits)


def test_without_stored_vectors_multi_and_all_encode_the_candidates(plain, tiny_model):
    expected = exact(tiny_model)
    hits = plain.search(QUERY, "multi", limit=4, candidates=8)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.text], abs=1e-5)
    assert len(plain.search(QUERY, "all", limit=4)) == 4


def test_all_is_the_weighted_mean_of_the_three_scores(filled, tiny_model):
    hits = filled.search(QUERY, "all", limit=6, candidates=20)
    weights = np.array(tiny_model.fusion_weights)
    (query,) = tiny_model.encode([QUERY], return_colbert_vecs=True)
    assert len(hits) == 6
    for hit, own in zip(hits, tiny_model.encode([hit.text for hit in hits], return_colbert_vecs=True), strict=True):
        three = (hit.dense_score, hit.sparse_score, hit.colbert_score)
        assert hit.score == pytest.approx(float(np.dot(weights, three) / weights.sum()), abs=1e-5)
        assert hit.dense_score == pytest.approx(M3Model.dense_score(query.dense, own.dense), abs=1e-4)
        assert hit.sparse_score == pytest.approx(M3Model.lexical_score(query.sparse, own.sparse), abs=1e-4)
        assert abs(hit.colbert_score - M3Model.colbert_score(query.colbert_vecs, own.colbert_vecs)) < 1e-2


@pytest.mark.parametrize("mode", ["multi", "all"])
def test_filters_offsets_and_several_queries_mean_what_they_mean_elsewhere(filled, mode):
    boat = SENTENCES["en"][2]
    one, two = filled.search([QUERY, boat], mode, limit=6, filter='lang == "en"')
    assert {hit.metadata["lang"] for hit in (*one, *two)} == {"en"}
    assert two[0].text == boat
    alone = filled.search(QUERY, mode, limit=6, filter='lang == "en"')
    assert [hit.id for hit in alone] == [hit.id for hit in one]
    np.testing.assert_allclose([hit.score for hit in alone], [hit.score for hit in one], atol=1e-5)
    second = filled.search(QUERY, mode, limit=3, offset=3, filter='lang == "en"', candidates=18)
    assert second == filled.search(QUERY, mode, limit=6, filter='lang == "en"')[3:]
    assert filled.search([], mode) == []
    words = filled.search(boat, mode, limit=1, matched_words=True)[0].matched_words
    assert words


@pytest.mark.parametrize("mode", ["multi", "all"])
def test_a_filter_that_is_none_is_an_error_there_too(filled, mode):
    with pytest.raises(MilvusError, match="cannot"):
        filled.search(QUERY, mode, filter="lang ==")


@pytest.mark.parametrize("mode", ["multi", "all"])
def test_what_would_mean_nothing_is_refused(filled, mode):
    with pytest.raises(ValueError, match="ranks by token vectors already"):
        filled.search(QUERY, mode, rerank="colbert")


def test_a_replaced_row_has_the_vectors_of_its_new_text(tiny_model, uri):
    with M3Collection("c", tiny_model, uri=uri, token_vectors="fp16") as collection:
        collection.add([{"id": "a", "text": TEXTS[0], "metadata": {"x": 1}}, {"id": "b", "text": TEXTS[1]}])
        collection.add([{"id": "a", "text": TEXTS[2]}])
        (own,) = tiny_model.encode([TEXTS[2]], return_colbert_vecs=True).colbert_vecs
        np.testing.assert_allclose(stored(collection, "a"), own, atol=1e-3)
        collection.delete("a")
        assert [hit.id for hit in collection.search(QUERY, "multi")] == ["b"]
        assert collection._table.stored_tokens(["a"]) == {}


def test_a_program_that_knows_nothing_of_the_field_leaves_no_vectors_of_another_text(tiny_model, uri):
    """Milvus Lite merges a row into the one that has its id, so the field would keep what it holds."""
    with M3Collection("c", tiny_model, uri=uri, token_vectors="int8") as collection:
        collection.add([{"id": "a", "text": TEXTS[0]}, {"id": "b", "text": TEXTS[1]}])
        (encoded,) = tiny_model.encode([TEXTS[2]])
        sparse = dict(zip(encoded.sparse.indices.tolist(), encoded.sparse.data.tolist(), strict=True))
        row = {"id": "a", "text": TEXTS[2], "dense": encoded.dense, "sparse": sparse}
        collection.client.upsert("c", [row])
        assert stored(collection, "a") is None
        scores = exact(tiny_model, [TEXTS[2], TEXTS[1]])
        hits = collection.search(QUERY, "dense", limit=2, rerank="colbert")
        for hit in hits:
            assert hit.colbert_score == pytest.approx(scores[hit.text], abs=1e-2)
        # A row without vectors is found by its other vectors' candidates, not left out.
        assert {hit.id for hit in collection.search(QUERY, "multi")} == {"a", "b"}


def test_what_is_kept_stays_over_reopening_and_is_not_changed_in_silence(tiny_model, uri):
    with M3Collection("c", tiny_model, uri=uri, token_vectors="int8", pool=2) as collection:
        collection.add(TEXTS[:6], show_progress=False)
    with M3Collection("c", tiny_model, uri=uri) as collection:
        assert (collection.token_vectors, collection.pool) == ("int8", 2)
        (added,) = (each for each in collection.search(TEXTS[2], "dense", limit=1))
        (own,) = tiny_model.encode([TEXTS[2]], return_colbert_vecs=True).colbert_vecs
        smaller = pooled(own, 2)
        assert len(smaller) == (len(own) + 1) // 2
        np.testing.assert_allclose(stored(collection, added.id), smaller, atol=1e-2)
    with pytest.raises(CollectionMismatchError, match="token vectors as int8, pooled by 2, not fp16"):
        M3Collection("c", tiny_model, uri=uri, token_vectors="fp16")
    with pytest.raises(CollectionMismatchError, match="token vectors as int8, pooled by 2, not int8:"):
        M3Collection("c", uri=uri, token_vectors="int8")
    with M3Collection("without", tiny_model, uri=uri) as collection:
        collection.add(TEXTS[:1])
    with pytest.raises(CollectionMismatchError, match="keep no token vectors, not int8"):
        M3Collection("without", tiny_model, uri=uri, token_vectors="int8")


def test_encoding_again_with_another_model_makes_its_token_vectors_too(tiny_model, uri, tmp_path):
    with M3Collection("c", tiny_model, uri=uri, token_vectors="fp16") as collection:
        collection.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS[:5])])
    with (
        M3Model.load(write_random_checkpoint(tmp_path / "other", seed=7), precision="fp32") as other,
        M3Collection("c", other, uri=uri, reencode=True) as collection,
    ):
        (own,) = other.encode([TEXTS[4]], return_colbert_vecs=True).colbert_vecs
        np.testing.assert_allclose(stored(collection, "4"), own, atol=1e-3)


def test_metadata_must_not_be_called_as_the_field(tiny_model, uri):
    document = {"text": TEXTS[0], "metadata": {"token_vectors": 1}}
    with (
        M3Collection("c", tiny_model, uri=uri, token_vectors="fp16") as collection,
        pytest.raises(DocumentError, match="cannot be called 'token_vectors'"),
    ):
        collection.add([document])
    with M3Collection("without", tiny_model, uri=uri) as collection:
        collection.add([document])
        assert collection.search(QUERY, "dense")[0].metadata == {"token_vectors": 1}


def test_arguments_are_checked(tiny_model, uri):
    with pytest.raises(ValueError, match="token_vectors is 'int4'"):
        M3Collection("c", tiny_model, uri=uri, token_vectors="int4")
    with pytest.raises(ValueError, match="pool is 5: it must be 1 to 4"):
        M3Collection("c", tiny_model, uri=uri, token_vectors="int8", pool=5)
    with pytest.raises(ValueError, match="give token_vectors too"):
        M3Collection("c", tiny_model, uri=uri, pool=2)
    with pytest.raises(TypeError, match="pool"):
        M3Collection("c", tiny_model, uri=uri, token_vectors="int8", pool="two")


def test_a_model_without_the_head_cannot_keep_token_vectors(tmp_path, uri):
    folder = write_random_checkpoint(tmp_path / "headless")
    (folder / "colbert_linear.pt").unlink()
    with (
        M3Model.load(folder, precision="fp32") as headless,
        M3Collection("c", headless, uri=uri, token_vectors="fp16") as collection,
    ):
        with pytest.raises(MissingHeadError):
            collection.add(TEXTS[:1])
        assert not collection.exists


def test_long_texts_are_encoded_in_parts_that_memory_holds(tiny_model, uri):
    texts = [f"{number} " + "a boat and a bridge " * 1500 for number in range(6)]
    with M3Collection("c", tiny_model, uri=uri, token_vectors="fp16") as collection:
        added = collection.add([{"id": str(i), "text": text} for i, text in enumerate(texts)], max_length=1024)
        assert added.written == collection.count() == 6
        assert all(len(stored(collection, str(i))) == 1023 for i in range(6))


def test_rows_are_read_also_where_milvus_lite_has_to_be_asked(filled, monkeypatch):
    """A Milvus Lite file that another package opened in this process is read through gRPC."""
    found = filled.search(QUERY, "multi", limit=5), filled.search(QUERY, "dense", limit=5, rerank="colbert")
    monkeypatch.setattr("trivec.milvus.lite_server.collection", lambda *_: None)
    asked = filled.search(QUERY, "multi", limit=5), filled.search(QUERY, "dense", limit=5, rerank="colbert")
    assert asked == found


ADD = """
import sys
from trivec import M3Model
from trivec.milvus import M3Collection
with M3Model.load(sys.argv[1], precision="fp32") as model, M3Collection("c", model, uri=sys.argv[2]) as collection:
    print("ready", flush=True)
    while True:
        for word in ("boat", "bridge", "city", "river"):
            collection.add([{"id": str(i), "text": f"text {i} of a {word}"} for i in range(200)], show_progress=False)
            print(word, flush=True)
"""


def test_a_killed_add_leaves_no_vectors_of_another_text(tiny_model, tiny_checkpoint, uri):
    with M3Collection("c", tiny_model, uri=uri, token_vectors="fp16") as collection:
        collection.add([{"id": str(i), "text": f"text {i}"} for i in range(200)], show_progress=False)
    for kill in range(3):
        command = [sys.executable, "-c", ADD, str(tiny_checkpoint), uri]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            for _ in range(2 + kill):  # killed while the next documents are written
                assert running.stdout.readline()
            running.kill()
        with M3Collection("c", tiny_model, uri=uri) as collection:
            rows = {row["id"]: row for row in collection._table.every_stored_token("")}
            assert len(rows) == 200
            texts = {identifier: row["text"] for identifier, row in rows.items()}
            vectors = tiny_model.encode(list(texts.values()), return_colbert_vecs=True).colbert_vecs
            for identifier, own in zip(texts, vectors, strict=True):
                kept = collection._table.tokens.vectors(rows[identifier]["token_vectors"], texts[identifier])
                np.testing.assert_allclose(kept, own, atol=1e-3)
