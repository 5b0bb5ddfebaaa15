"""Adding to and searching a collection on real Milvus Lite with the tiny model."""

import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.documents import Document, DocumentError
from trivec.encoding import TruncationWarning
from trivec.errors import MissingHeadError
from trivec.milvus import RRF, M3Collection, MilvusError, Weighted, index_documents

TEXTS = [text for language in SENTENCES.values() for text in language]
QUERY = "Which bridge was built first?"


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "test.db")


@pytest.fixture
def collection(tiny_model, uri):
    with M3Collection("texts", tiny_model, uri=uri) as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(tiny_model, tmp_path_factory):
    """A collection of all sample sentences, with their number and language."""
    with M3Collection("filled", tiny_model, uri=str(tmp_path_factory.mktemp("lite") / "filled.db")) as opened:
        documents = [
            {"id": f"{language}-{number}", "text": text, "metadata": {"lang": language, "number": number}}
            for language, texts in SENTENCES.items()
            for number, text in enumerate(texts)
        ]
        opened.add(documents, show_progress=False)
        yield opened


@pytest.fixture(scope="module")
def vectors(tiny_model):
    """Vectors of the sample sentences by text, and of the query, straight from the model."""
    embeddings = tiny_model.encode([*TEXTS, QUERY], return_colbert_vecs=True)
    return {text: embeddings[i] for i, text in enumerate([*TEXTS, QUERY])}


def exact(vectors, kind):
    """The score of each sample sentence for QUERY, best first."""
    query = vectors[QUERY]
    score = {
        "dense": lambda document: M3Model.dense_score(query.dense, document.dense),
        "sparse": lambda document: M3Model.lexical_score(query.sparse, document.sparse),
        "colbert": lambda document: M3Model.colbert_score(query.colbert_vecs, document.colbert_vecs),
    }[kind]
    return dict(sorted(((text, score(vectors[text])) for text in set(TEXTS)), key=lambda pair: -pair[1]))


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_search_ranks_as_the_vectors_do(filled, vectors, mode):
    hits = filled.search(QUERY, mode, limit=8)
    expected = exact(vectors, mode)
    assert [hit.text for hit in hits] == list(expected)[:8]
    np.testing.assert_allclose([hit.score for hit in hits], list(expected.values())[:8], atol=1e-4)
    assert [hit.score for hit in hits] == [hit.dense_score if mode == "dense" else hit.sparse_score for hit in hits]
    assert hits[0].metadata.keys() == {"lang", "number"}


def test_hybrid_search_fuses_ranks_and_knows_both_scores(filled, vectors):
    hits = filled.search(QUERY, "hybrid", limit=5, candidates=10)
    dense, sparse = exact(vectors, "dense"), {text: s for text, s in exact(vectors, "sparse").items() if s > 0}
    ranks = [{text: rank for rank, text in enumerate(list(found)[:10], start=1)} for found in (dense, sparse)]
    fused = {text: sum(1 / (60 + r[text]) for r in ranks if text in r) for text in {*ranks[0], *ranks[1]}}
    assert {hit.text: pytest.approx(hit.score) for hit in hits} == {
        hit.text: pytest.approx(fused[hit.text]) for hit in hits
    }
    assert [hit.score for hit in hits] == pytest.approx(sorted(fused.values(), reverse=True)[:5])
    for hit in hits:
        assert hit.dense_score == pytest.approx(dense[hit.text], abs=1e-4)
        assert hit.sparse_score == pytest.approx(sparse.get(hit.text, 0.0), abs=1e-4)


def test_weighted_ranker_is_the_weighted_sum_of_the_scores(filled, vectors):
    hits = filled.search(QUERY, ranker=Weighted(dense=0.7, sparse=0.1), limit=6, candidates=len(TEXTS))
    dense, sparse = exact(vectors, "dense"), exact(vectors, "sparse")
    expected = sorted((0.7 * dense[text] + 0.1 * sparse[text] for text in dense), reverse=True)[:6]
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-4)


def test_a_one_sided_weighted_ranker_orders_as_that_search(filled):
    for weights, mode in [(Weighted(1, 0), "dense"), (Weighted(0, 1), "sparse")]:
        fused = filled.search(QUERY, ranker=weights, limit=4)
        assert [hit.id for hit in fused] == [hit.id for hit in filled.search(QUERY, mode, limit=4)]


def test_rerank_order_equals_brute_force_maxsim(filled, vectors):
    hits = filled.search(QUERY, "dense", limit=5, rerank="colbert", candidates=len(TEXTS))
    expected = exact(vectors, "colbert")
    assert [hit.text for hit in hits] == list(expected)[:5]
    np.testing.assert_allclose([hit.score for hit in hits], list(expected.values())[:5], atol=1e-4)
    assert hits[0].dense_score is not None


def test_several_queries_are_answered_in_order(filled):
    queries = [*TEXTS[:3], QUERY] * 40  # more than one request holds
    for mode in ("dense", "sparse", "hybrid"):
        found = filled.search(queries, mode, limit=2)
        assert len(found) == len(queries)
        assert [ranking[0].text for ranking in found[:3]] == TEXTS[:3]
        assert [hit.id for hit in found[-1]] == [hit.id for hit in filled.search(QUERY, mode, limit=2)]
    assert filled.search([], "dense") == []
    reranked = filled.search(TEXTS[:2], rerank="colbert", limit=1)
    assert [ranking[0].text for ranking in reranked] == TEXTS[:2]


def test_a_filter_is_passed_on_unchanged(filled):
    for mode in ("dense", "sparse", "hybrid"):
        hits = filled.search(TEXTS[0], mode, limit=20, filter='lang in ["de", "fr"] and number < 1')
        assert hits
        assert {hit.id for hit in hits} <= {"de-0", "fr-0"}
    assert [hit.id for hit in filled.search(QUERY, filter='text like "%bateau%"')] == ["fr-1"]


def test_a_wrong_filter_is_one_clear_line(filled, capfd):
    with pytest.raises(MilvusError, match="cannot search with the filter 'number >': unexpected end") as caught:
        filled.search(QUERY, filter="number >")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_query_without_lexical_weights_finds_nothing_in_sparse_and_dense_hits_in_hybrid(filled):
    assert filled.search("</s>", "sparse") == []
    assert filled.search(["</s>", TEXTS[0], "</s>"], "sparse", limit=1)[1][0].text == TEXTS[0]
    hits = filled.search("</s>", "hybrid", limit=3)
    assert [hit.id for hit in hits] == [hit.id for hit in filled.search("</s>", "dense", limit=3)]
    assert [hit.sparse_score for hit in hits] == [0, 0, 0]


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_matched_words_add_up_to_the_sparse_score(filled, vectors, mode):
    sparse = exact(vectors, "sparse")
    found = filled.search([QUERY, TEXTS[3]], mode, limit=3, matched_words=True)
    assert found[1][0].matched_words[0][0] in TEXTS[3]
    for hit in found[0]:
        assert sum(weight for _, weight in hit.matched_words) == pytest.approx(sparse[hit.text], abs=1e-4)
        assert all(word.lower() in (QUERY + "\u2581").lower() for word, _ in hit.matched_words)
    assert {hit.matched_words for hit in filled.search(QUERY, mode, limit=3)} == {None}


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_a_search_encodes_its_query_once_whatever_it_tells(filled, tiny_model, monkeypatch, mode):
    passes = []
    encode = tiny_model.encode
    monkeypatch.setattr(tiny_model, "encode", lambda texts, **how: passes.append(texts) or encode(texts, **how))
    plain = filled.search(QUERY, mode, limit=3)
    assert passes == [[QUERY]]
    told = filled.search(QUERY, mode, limit=3, matched_words=True)
    assert passes == [[QUERY]] * 2
    assert [hit.id for hit in told] == [hit.id for hit in plain]


def test_a_document_without_lexical_weights_is_found_by_dense_and_never_by_sparse(collection):
    collection.add(
        [{"id": "end", "text": "</s>"}, {"id": "unknown", "text": "<unk>"}, {"id": "words", "text": TEXTS[0]}]
    )
    assert collection.count() == 3
    assert {hit.id for hit in collection.search("</s>", "dense")} == {"end", "unknown", "words"}
    assert {hit.id for hit in collection.search(TEXTS[0], "hybrid")} == {"end", "unknown", "words"}
    for query in TEXTS:
        assert {hit.id for hit in collection.search(query, "sparse")} <= {"words"}


def test_blank_documents_are_left_out_and_a_blank_query_is_refused(collection):
    collection.add([{"id": "was", "text": "a boat"}, {"id": "stays", "text": "a bridge"}])
    blank = [{"id": "was", "text": " \n\t"}, {"id": "b", "text": ""}, {"id": "c", "text": "\u200b\u2028"}]
    added = collection.add([*blank, {"id": "d", "text": "."}])
    assert (added.written, added.blank) == (1, 3)
    assert collection.known_ids(["was", "b", "c", "d", "stays"]) == {"d", "stays"}
    indexed = index_documents(collection, [Document("e", ""), Document("f", "one")])
    assert (indexed.documents, indexed.written, indexed.blank) == (2, 1, 1)
    with pytest.raises(ValueError, match="the query is empty"):
        collection.search(" ")
    with pytest.raises(ValueError, match=r"queries\[1\] is empty"):
        collection.search(["a boat", "\u200b"])


def test_the_same_id_is_the_same_row(collection):
    with pytest.warns(UserWarning, match="1 id occurs more than once"):
        collection.add([{"id": "a", "text": "first"}, {"id": "b", "text": "other"}, {"id": "a", "text": "second"}])
    assert collection.count() == 2
    assert {hit.id: hit.text for hit in collection.search("x", "dense")} == {"a": "second", "b": "other"}
    collection.add([{"id": "a", "text": "third", "metadata": {"new": True}}])
    assert {hit.id: hit.text for hit in collection.search("x", "dense")} == {"a": "third", "b": "other"}
    assert collection.search("x", "dense", filter="new == true")[0].metadata == {"new": True}
    with pytest.warns(UserWarning, match="1 id occurs"):
        collection.add(["no id", "no id"])
    collection.add(["no id"])
    assert collection.count() == 3


def test_an_interrupted_add_is_finished_by_running_it_again(collection, tiny_model):
    documents = [Document(f"d{i}", f"{TEXTS[i % len(TEXTS)]} {i}", {"number": i}) for i in range(300)]

    def interrupted():
        yield from documents[:200]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collection.add(interrupted())
    stored = collection.count()
    assert 0 < stored < 300
    added = collection.add(iter(documents), skip_unchanged=True)
    assert (added.written, added.unchanged) == (300 - stored, stored)
    assert collection.count() == 300
    again = collection.add(documents, skip_unchanged=True)
    assert (again.written, again.unchanged) == (0, 300)


def test_skip_unchanged_writes_what_has_changed(collection):
    collection.add([{"id": "a", "text": "t", "metadata": {"n": 1}}, {"id": "b", "text": "t"}])
    changed = [{"id": "a", "text": "t", "metadata": {"n": 2}}, {"id": "b", "text": "u"}, {"id": "c", "text": "t"}]
    assert collection.add(changed, skip_unchanged=True).written == 3


def test_everything_is_there_when_the_file_is_opened_again(tiny_model, uri):
    with M3Collection("texts", tiny_model, uri=uri) as first:
        first.add(TEXTS)
        before = first.search(QUERY, limit=5)
    with M3Collection("texts", tiny_model, uri=uri) as second:
        assert second.count() == len(set(TEXTS))
        assert second.search(QUERY, limit=5) == before


def test_ids_with_quotes_and_backslashes(collection):
    ids = ["it's", 'say "x"', "C:\\notes\\a", "日本 #1", "a' or id != '"]
    collection.add([{"id": identifier, "text": "t"} for identifier in ids])
    assert collection.known_ids([*ids, "missing"]) == set(ids)
    assert collection.add([{"id": identifier, "text": "t"} for identifier in ids], skip_unchanged=True).unchanged == 5
    collection.delete(["a' or id != '", "it's"])
    assert collection.known_ids(ids) == set(ids) - {"a' or id != '", "it's"}


@pytest.mark.filterwarnings("ignore:1 of 1 texts")
def test_text_fills_a_varchar_to_the_byte_and_not_beyond(collection):
    collection.add([{"id": "full", "text": "é" * 32_767 + "e"}], max_length=16)
    (hit,) = collection.search("x", "dense")
    assert len(hit.text.encode()) == 65_535
    with pytest.raises(DocumentError, match=r"document 'over': its text has 65,536 bytes of UTF-8.*65,535"):
        collection.add([{"id": "over", "text": "é" * 32_768}])
    assert collection.count() == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"id": "", "text": "a"}, "must not be empty"),
        ({"id": "a\nb", "text": "a"}, "control characters"),
        ({"id": "é" * 600, "text": "a"}, "its id has 1,200 bytes"),
        ({"id": "s", "text": "a\ud800"}, r"lone surrogate \(U\+D800, character 1\)"),
        ({"id": "m", "text": "a", "metadata": {"dense": 1}}, "cannot be called 'dense'"),
        (
            {"id": "m", "text": "a", "metadata": {"x": b"raw"}},
            "'m': Milvus cannot hold its metadata 'x' .*bytes",
        ),
        (
            {"id": "m", "text": "a", "metadata": {"x": float("nan")}},
            "'m': Milvus cannot hold its metadata 'x'",
        ),
        ({"id": "m", "text": "a", "metadata": {"y": 1, "x": {"z": [2**63]}}}, "its metadata 'x' .*beyond 64 bits"),
        ({"id": "m", "text": "a", "metadata": {"x": "y" * 70_000}}, "metadata has 70,009 bytes"),
        ({"id": "m", "text": "a", "year": 1}, "inside 'metadata'"),
    ],
)
def test_what_milvus_cannot_store_is_refused_by_name(collection, document, message):
    with pytest.raises(DocumentError, match=message):
        collection.add([document])


@pytest.mark.parametrize("weights", [(math.nan, 1), (1, math.inf), (0, 0), (-1, 2)])
def test_weights_that_rank_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        Weighted(*weights)
    with pytest.raises(ValueError, match="k of RRF"):
        RRF(math.nan)


def test_wrong_arguments(filled):
    with pytest.raises(TypeError, match=r"ranker is 'rrf': it must be RRF\(\.\.\.\) or Weighted"):
        filled.search(QUERY, ranker="rrf")
    with pytest.raises(TypeError, match="single str"):
        filled.add("a text")
    for arguments, message in [
        ({"mode": "lexical"}, "'lexical'"),
        ({"limit": 0}, "limit=0 must be at least 1"),
        ({"rerank": "bm25"}, "'bm25'"),
        ({"mode": "dense", "ranker": RRF()}, "hybrid"),
        ({"candidates": 3}, "at least limit"),
    ]:
        with pytest.raises(ValueError, match=message):
            filled.search("x", **arguments)
    with pytest.raises(ValueError, match="positive"):
        RRF(0)
    with pytest.raises(ValueError, match="negative"):
        Weighted(-1, 1)
    with pytest.raises(TypeError, match=r"texts\[1\]"):
        filled.search(["x", None])


def test_searching_what_does_not_exist_makes_nothing(tiny_model, uri, tmp_path):
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        assert collection.count() == 0
        with pytest.raises(MilvusError, match="there is no Milvus Lite file"):
            collection.search("x")
    assert list(tmp_path.iterdir()) == []
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(["a"])
    with (
        M3Collection("textz", tiny_model, uri=uri) as typo,
        pytest.raises(MilvusError, match=r"no collection 'textz' \(it has: texts\)"),
    ):
        typo.search("x")


def test_a_closed_collection_frees_the_file_and_says_that_it_is_closed(tiny_model, uri):
    opening = f"from pymilvus import MilvusClient; MilvusClient({uri!r})"
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(["a"])
        with M3Collection("texts", tiny_model, uri=uri) as second:
            assert second.count() == 1
        assert collection.count() == 1  # the second one's closing left the file open
        locked = subprocess.run([sys.executable, "-c", opening], capture_output=True, check=False)
        assert locked.returncode != 0
    assert subprocess.run([sys.executable, "-c", opening], capture_output=True, check=False).returncode == 0
    with pytest.raises(MilvusError, match="closed"):
        collection.count()


def test_a_model_without_a_sparse_head_still_searches_dense(tmp_path, uri):
    folder = write_random_checkpoint(tmp_path / "dense-only", heads=())
    with M3Model.load(folder, precision="fp32") as model, M3Collection("d", model, uri=uri) as collection:
        collection.add(TEXTS[:5])
        assert collection.search(TEXTS[2], "dense", limit=1)[0].text == TEXTS[2]
        with pytest.raises(MissingHeadError):
            collection.search(TEXTS[2], "hybrid")


def test_indexing_again_removes_the_chunks_of_a_shortened_document(collection):
    long = " ".join(TEXTS)
    first = index_documents(collection, [Document("a", long), Document("b", "short")], max_tokens=32, overlap=8)
    assert (first.documents, first.removed) == (2, 0)
    assert first.written == collection.count() > 4
    second = index_documents(
        collection, [Document("a", long[:200]), Document("b", "short")], max_tokens=32, overlap=8, skip_unchanged=True
    )
    assert second.removed > 0
    assert collection.count() == second.written + second.unchanged
    assert collection.known_ids(["a#1", "b#1"]) == {"a#1", "b#1"}


def test_documents_with_the_same_id_are_counted_and_the_last_one_leaves_no_chunks_of_the_first(collection):
    documents = [Document("a", " ".join(TEXTS)), Document("b", "short"), Document("a", "now short")]
    with pytest.warns(UserWarning, match="1 id occurs more than once") as warned:
        indexed = index_documents(collection, documents, max_tokens=32, overlap=8)
    assert len(warned) == 1
    assert indexed.removed > 0
    assert {hit.id: hit.text for hit in collection.search("x", "dense")} == {"a#1": "now short", "b#1": "short"}


def test_adding_the_same_id_twice_warns_across_batches(collection):
    documents = [Document(str(i % 150), f"text {i}") for i in range(152)]
    with pytest.warns(UserWarning, match="2 ids occur more than once; the last document of each is kept"):
        collection.add(documents)
    assert collection.count() == 150


def test_replacing_a_document_replaces_its_metadata(collection):
    collection.add([{"id": "m", "text": "x", "metadata": {"a": 1, "old": "x"}}, {"id": "n", "text": "y"}])
    new = [{"id": "m", "text": "x", "metadata": {"b": 2}}]
    assert collection.add(new, skip_unchanged=True).written == 1
    assert {hit.id: hit.metadata for hit in collection.search("x", "dense")} == {"m": {"b": 2}, "n": {}}
    with pytest.warns(UserWarning, match="has the field 'old'"):
        assert collection.search("x", "dense", filter='old == "x"') == []
    assert collection.add(new, skip_unchanged=True).unchanged == 1


def test_replacing_a_value_inside_metadata_leaves_nothing_of_the_old_one(collection):
    for metadata in (
        {"a": {"x": 1, "y": [1, 2]}, "b": [1, 2]},
        {"a": {"x": 2}, "b": []},
        {"a": None, "b": "c", "d": 1},
    ):
        collection.add([{"id": "m", "text": "x", "metadata": metadata}])
        (hit,) = collection.search("x", "dense")
        assert {name: value for name, value in hit.metadata.items() if value is not None} == {
            name: value for name, value in metadata.items() if value is not None
        }


def test_what_an_add_that_fails_halfway_has_stored_is_flushed(collection, monkeypatch):
    def failing():
        yield from (f"text {i}" for i in range(130))
        raise KeyboardInterrupt

    flushed = []
    collection.add(["first"])
    flush = collection.client.flush
    monkeypatch.setattr(collection.client, "flush", lambda name: flushed.append(flush(name)))
    with pytest.raises(KeyboardInterrupt):
        collection.add(failing())
    assert len(flushed) == 1
    collection.add(["first"], skip_unchanged=True)  # nothing left to write, but the flush may be missing
    assert len(flushed) == 2


def test_several_threads_may_add_first(tiny_model, uri):
    with M3Collection("texts", tiny_model, uri=Path(uri)) as one, M3Collection("texts", tiny_model, uri=uri) as two:
        with ThreadPoolExecutor(8) as pool:
            added = pool.map(lambda i: (one if i % 2 else two).add([f"text {i}"]), range(8))
            assert [each.written for each in added] == [1] * 8
        assert one.count() == two.count() == 8


def test_one_warning_counts_all_documents_that_were_cut(collection):
    with pytest.warns(TruncationWarning, match="290 of 300 texts") as warned:
        collection.add([f"{i} a b c d e f g h" if i >= 10 else str(i) for i in range(300)], max_length=8)
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_chunks_fit_what_the_model_reads(tiny_checkpoint, tmp_path, recwarn):
    long = Document(id="long", text="boat " * 3000, metadata={})
    with (
        M3Model.load(tiny_checkpoint, max_length=64) as model,
        M3Collection("short", model, uri=str(tmp_path / "m.db")) as collection,
    ):
        assert index_documents(collection, [long], show_progress=False).written > 3000 // 64
        with pytest.raises(ValueError, match="max_tokens is 62: of a chunk the model reads at most 61"):
            index_documents(collection, [long], max_tokens=62)
    assert not [warning for warning in recwarn if issubclass(warning.category, TruncationWarning)]


def test_reranking_warns_of_no_document_that_adding_has_warned_of(tiny_model, tmp_path):
    with M3Collection("long", tiny_model, uri=tmp_path / "m.db") as collection:
        with pytest.warns(TruncationWarning, match="1 of 1 texts"):
            collection.add(["a boat " * 2000], show_progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error", TruncationWarning)
            (hit,) = collection.search("a boat", rerank="colbert")
    assert hit.colbert_score is not None
