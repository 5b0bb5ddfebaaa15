"""What users pass to a collection: ids, numbers and filters of every kind they come in."""

from __future__ import annotations

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec.documents import Document, DocumentError, MetadataError
from trivec.milvus import RRF, M3Collection, Weighted, filters, index_documents

TEXTS = [text for language in SENTENCES.values() for text in language]


@pytest.fixture
def collection(tiny_model, tmp_path):
    with M3Collection("texts", tiny_model, uri=str(tmp_path / "test.db")) as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(tiny_model, tmp_path_factory):
    with M3Collection("filled", tiny_model, uri=str(tmp_path_factory.mktemp("lite") / "filled.db")) as opened:
        opened.add([{"id": str(i), "text": text, "metadata": {"n": i}} for i, text in enumerate(TEXTS)])
        yield opened


def test_a_single_str_is_one_id(collection):
    collection.add([{"id": identifier, "text": "t"} for identifier in ("a", "b", "c", "abc")])
    assert collection.known_ids("abc") == {"abc"}
    assert collection.known_ids("ab") == set()
    collection.delete("abc")
    assert collection.known_ids(["a", "b", "c", "abc"]) == {"a", "b", "c"}


def test_integers_are_the_same_ids_everywhere(collection):
    collection.add([{"id": 7, "text": "t"}, {"id": np.int64(8), "text": "t"}, {"id": "9", "text": "t"}])
    assert collection.known_ids([7, np.int32(8), 9, 10]) == {"7", "8", "9"}
    assert collection.known_ids(7) == {"7"}
    assert collection.known_ids(np.array([7, 9])) == {"7", "9"}
    collection.delete(np.int64(7))
    collection.delete([8])
    assert collection.known_ids(["7", "8", "9"]) == {"9"}


@pytest.mark.parametrize("given", [None, 1.5, True, {"a": 1}, b"abc", ["a", None], [1.0], [True], [b"a"]])
def test_what_is_no_id_is_refused(filled, given):
    for method in (filled.delete, filled.known_ids):
        with pytest.raises(TypeError, match="ids"):
            method(given)
    assert filled.count() == len(TEXTS)


def test_an_id_that_milvus_cannot_be_asked_for_is_not_there(collection):
    collection.add([{"id": identifier, "text": "t"} for identifier in ("a", "b", "c")])
    strange = ["\0", "a\x1b[2J", "a\ud800", "", "a\b", "\x0c"]
    assert collection.known_ids(["a", *strange]) == {"a"}
    collection.delete([*strange, "b", "x\ty\n"])
    assert collection.known_ids(["a", "b", "c"]) == {"a", "c"}


@pytest.mark.parametrize("value", ["3", None, 1.5, True, [2], np.float64(2)])
@pytest.mark.parametrize("name", ["limit", "offset", "candidates"])
def test_a_search_names_the_number_that_is_none(filled, name, value):
    if name == "candidates" and value is None:
        return  # which means: the default
    with pytest.raises(TypeError, match=f"^{name}=.*whole number"):
        filled.search("a boat", **{name: value})


def test_the_other_numbers_are_named_too(filled):
    for name, value, error in [
        ("max_batch_tokens", "16", TypeError),
        ("max_batch_tokens", 0, ValueError),
        ("max_length", 2.5, TypeError),
        ("max_length", 1, ValueError),
    ]:
        with pytest.raises(error, match=f"^{name}=.* must be "):
            filled.add(["a"], **{name: value})
    for name, value in [("max_tokens", "64"), ("overlap", 1.5), ("max_batch_tokens", 1.5)]:
        with pytest.raises(TypeError, match=f"^{name}=.* must be "):
            index_documents(filled, [Document("a", "b")], **{name: value})
    for make in (lambda: RRF("60"), lambda: Weighted(dense="1"), lambda: Weighted(sparse=None)):
        with pytest.raises(TypeError, match="must be a number"):
            make()
    with pytest.raises(TypeError, match="filter is None"):
        filled.search("a boat", filter=None)
    for timeout, error in [("5", TypeError), (0, ValueError), (float("nan"), ValueError)]:
        with pytest.raises(error, match="timeout is "):
            M3Collection("x", uri="x.db", timeout=timeout)
    assert filled.count() == len(TEXTS)


def test_numbers_of_numpy_are_numbers(filled):
    assert len(filled.search("a boat", limit=np.int64(2), candidates=np.int32(5))) == 2
    ranked = filled.search("a boat", ranker=Weighted(np.float32(0.5), np.float64(0.5)), limit=np.uint8(3))
    assert len(ranked) == 3


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_pages_follow_each_other(filled, mode):
    first_ten = filled.search(TEXTS[3], mode, limit=10, candidates=40)
    pages = [filled.search(TEXTS[3], mode, limit=4, offset=offset, candidates=40) for offset in (0, 4, 8)]
    assert [hit.id for page in pages for hit in page][:10] == [hit.id for hit in first_ten]
    assert filled.search(TEXTS[3], mode, limit=3, offset=1000) == []
    with pytest.raises(ValueError, match=r"candidates is 5: it must be at least offset \+ limit"):
        filled.search(TEXTS[3], mode, limit=3, offset=3, candidates=5)


def test_more_than_milvus_gives_is_refused_by_name(filled):
    for arguments, named in [
        ({"limit": 16_385}, r"limit \(16385\) is beyond the 16,384"),
        ({"offset": 16_384, "limit": 1}, r"offset \+ limit \(16384 \+ 1\)"),
    ]:
        with pytest.raises(ValueError, match=named):
            filled.search("a boat", **arguments)
    assert len(filled.search("a boat", limit=16_384)) == len(TEXTS)


def test_scalars_of_numpy_in_metadata(collection):
    metadata = {
        "year": np.int64(1912),
        "share": np.float32(0.5),
        "known": np.bool_(True),
        "lang": np.str_("en"),
        "deep": {"a": [np.int16(1), (2, np.float64(3.5))], "b": np.array([1, 2])},
    }
    document = {"id": "a", "text": "a boat", "metadata": metadata}
    collection.add([document])
    (hit,) = collection.search("a boat", filter='year == 1912 and share < 0.6 and known == true and lang == "en"')
    assert hit.metadata == {
        "year": 1912,
        "share": 0.5,
        "known": True,
        "lang": "en",
        "deep": {"a": [1, [2, 3.5]], "b": [1, 2]},
    }
    assert collection.add([document], skip_unchanged=True).unchanged == 1


def test_keys_that_are_no_text_are_named_with_their_document(collection):
    with pytest.raises(MetadataError, match=r"document 'a': its metadata has the key 7 \(int\)"):
        collection.add([{"id": "a", "text": "t", "metadata": {7: "x"}}])
    for metadata in ({"m": {7: "x"}}, {"m": [{"k": {7: 1}}]}):
        with pytest.raises(MetadataError, match=r"document 'a': .*metadata 'm' \(the key 7 inside it is int"):
            collection.add([{"id": "a", "text": "t", "metadata": metadata}])
    with pytest.raises(DocumentError, match="which may be the name of a file"):
        collection.add([Document("notes/a\nb.txt", "t")])


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", []),
        ('year > 2000 AND lang == "en" OR not (x == 1.5e3)', ["year", "lang", "x"]),
        ("""a == 'it\\'s b' and c == "d \\" e" """, ["a", "c"]),
        ('$meta["a b"] == 1 and $meta["c"] is not null', ["a b", "c"]),
        ('json_contains(tags, "x") and array_length(list["y"]) > 1', ["tags", "list"]),
        ("deep['a'][0] == 1 and exists other and größe in [1, 2]", ["deep", "other", "größe"]),
        ("text like 'and%' and IS_x IS NULL", ["text", "IS_x"]),
    ],
)
def test_the_names_in_a_filter(expression, named):
    assert filters.names(expression) == named


def test_a_filter_on_a_field_that_no_document_has_is_said(filled, recwarn):
    with pytest.warns(UserWarning, match=r"no document .* has the field 'yeer' that the filter names; .* are 'n'"):
        assert filled.search("a boat", filter="yeer > 2000 and n > 1") == []
    with pytest.warns(UserWarning, match="'one' and 'two words'"):
        assert filled.search("a boat", filter='one == 1 and $meta["two words"] == 1') == []


def test_a_right_filter_is_no_reason_to_warn(collection, recwarn):
    # More rows than are looked at for names; only the last one has the field.
    documents = [{"id": str(i), "text": "t", "metadata": {"n": i}} for i in range(150)]
    collection.add([*documents, {"id": "last", "text": "t", "metadata": {"rare": 1}}], show_progress=False)
    assert [hit.id for hit in collection.search("t", filter="rare == 1")] == ["last"]
    assert collection.search("t", filter="rare == 2") == []
    assert collection.search("t", filter='id == "none" or text == "n" or n < 0') == []
    assert not recwarn.list
