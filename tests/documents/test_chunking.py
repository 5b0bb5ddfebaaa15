"""Cutting texts into chunks."""

import itertools

import pytest

from sample_texts import SENTENCES
from trivec.documents import Document, DocumentError
from trivec.documents.chunking import chunk_documents, chunk_text

ENGLISH = " ".join(SENTENCES["en"]) * 12
JAPANESE = "日本の古い都は京都です。湖を小さな舟が渡りました。" * 40


def content(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return tiny_model.tokenizer


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE, f"\n\n  {ENGLISH}\t{JAPANESE}\n"])
@pytest.mark.parametrize(("max_tokens", "overlap"), [(32, 8), (20, 0), (8, 0), (64, 31)])
def test_chunks_are_exact_pieces_that_cover_the_text(tokenizer, text, max_tokens, overlap):
    chunks = list(chunk_text(text, tokenizer, max_tokens=max_tokens, overlap=overlap))
    assert len(chunks) > 1
    covered = 0
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert not content(text[covered : chunk.start])  # nothing but white space between two chunks
        assert chunk.end > covered
        covered = chunk.end
    assert not content(text[covered:])


def test_neighbours_overlap_and_chunks_keep_their_size(tokenizer):
    chunks = list(chunk_text(ENGLISH, tokenizer, max_tokens=32, overlap=8))
    spans = tokenizer.token_spans(ENGLISH)
    for chunk, following in itertools.pairwise(chunks):
        assert following.start < chunk.end
    for chunk in chunks:
        inside = [span for span in spans if span[0] >= chunk.start and span[1] <= chunk.end and span[1] > span[0]]
        assert 0 < len(inside) <= 32


def test_cuts_fall_between_words_where_there_are_spaces(tokenizer):
    text = "bridge " * 200
    for chunk in chunk_text(text, tokenizer, max_tokens=40, overlap=10):
        assert set(chunk.text.split()) == {"bridge"}


@pytest.mark.parametrize("text", ["A short note.", "", "  \n ", " padded "])
def test_a_text_that_fits_is_one_chunk_unchanged(tokenizer, text):
    assert [chunk.text for chunk in chunk_text(text, tokenizer)] == [text]


def test_no_chunk_is_longer_than_milvus_takes(tokenizer):
    text = "ꙮ" * 50_000  # 3 bytes each, no word boundary and not in the vocabulary
    chunks = list(chunk_text(text, tokenizer))
    assert "".join(chunk.text for chunk in chunks) == text
    assert max(len(chunk.text.encode()) for chunk in chunks) <= 65_535


def test_a_text_longer_than_a_stretch_is_cut_like_a_short_one(tokenizer):
    text = ENGLISH * 60
    assert len(text) > 100_000
    chunks = list(chunk_text(text, tokenizer, max_tokens=512, overlap=64))
    assert chunks[0].start == 0
    assert chunks[-1].end == len(text)
    assert all(following.start < chunk.end for chunk, following in itertools.pairwise(chunks))


def test_chunk_ids_are_stable_and_metadata_says_where_they_are_from(tokenizer):
    document = Document("notes/a.md", ENGLISH, {"lang": "en"})
    first = list(chunk_documents([document], tokenizer, max_tokens=64, overlap=16))
    assert first == list(chunk_documents(iter([document]), tokenizer, max_tokens=64, overlap=16))
    assert [chunk.id for chunk in first[:2]] == ["notes/a.md#1", "notes/a.md#2"]
    second = first[1].metadata
    assert (second["lang"], second["document"], second["chunk"]) == ("en", "notes/a.md", 2)
    assert ENGLISH[second["start"] : second["end"]] == first[1].text


@pytest.mark.parametrize(("max_tokens", "overlap"), [(7, 0), (0, 0), (10, -1), (10, 5)])
def test_sizes_that_make_no_sense_are_refused(tokenizer, max_tokens, overlap):
    with pytest.raises(ValueError, match=f"is {overlap if max_tokens == 10 else max_tokens}:"):
        list(chunk_text("a", tokenizer, max_tokens=max_tokens, overlap=overlap))


def test_metadata_named_like_a_chunks_place_is_refused(tokenizer):
    with pytest.raises(DocumentError, match="document 'a': its metadata cannot be called 'start'"):
        list(chunk_documents([Document("a", "text", {"lang": "en", "start": 3})], tokenizer))


def test_the_overlap_shrinks_with_the_chunks(tokenizer):
    text = " ".join(SENTENCES["en"] * 20)
    chunks = [list(chunk_text(text, tokenizer, max_tokens=64, **overlap)) for overlap in ({}, {"overlap": 8})]
    assert chunks[0] == chunks[1]
