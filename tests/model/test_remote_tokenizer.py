"""The tokenizer of a model on a server: chunks, matched words and evaluation are what they are with the model here."""

from __future__ import annotations

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec import M3Model
from trivec.documents.chunking import chunk_text
from trivec.errors import TrivecError

TEXTS = [text for texts in SENTENCES.values() for text in texts]
ODD = [
    "",
    " ",
    "  a  b ",
    "\ud83d a",
    "ﷺ قال",
    "今天天气",
    "<mask> hi",
    "hello world ",
    "ｘ　ｙ",
    "👩‍👩‍👧‍👦 a",
    "e\u0301",
]


def test_spans(remote: M3Model, tiny_model: M3Model) -> None:
    for text in (*TEXTS, *ODD):
        assert remote.tokenizer.token_spans(text) == tiny_model.tokenizer.token_spans(text)
        assert remote.tokenizer.tokens_with_spans(text) == tiny_model.tokenizer.tokens_with_spans(text)


def test_chunks(remote: M3Model, tiny_model: M3Model) -> None:
    book = "\n".join(TEXTS) * 30
    found, wanted = (list(chunk_text(book, model.tokenizer, max_tokens=40)) for model in (remote, tiny_model))
    assert found == wanted
    assert len(found) > 10


@pytest.mark.parametrize("max_length", [5, 2**31])
def test_token_ids(max_length: int, remote: M3Model, tiny_model: M3Model) -> None:
    texts = [*TEXTS, *ODD]  # more than a request holds
    found, wanted = (model.tokenizer.encode_batch(texts, max_length) for model in (remote, tiny_model))
    assert found.cut == wanted.cut
    for ids, others in zip(found.token_ids, wanted.token_ids, strict=True):
        assert ids.dtype == others.dtype
        assert np.array_equal(ids, others)


def test_what_tutorials_call(remote: M3Model, tiny_model: M3Model) -> None:
    ours, theirs = remote.tokenizer, tiny_model.tokenizer
    text = "A small boat crossed the lake."
    for options in ({}, {"add_special_tokens": False}, {"truncation": True, "max_length": 5}):
        assert ours(text, return_offsets_mapping=True, **options) == theirs(
            text, return_offsets_mapping=True, **options
        )
        assert ours([text, "a"], **options) == theirs([text, "a"], **options)
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode(ids, skip_special_tokens=True) == text
    assert [ours.token_text(token_id) for token_id in ids] == [theirs.token_text(token_id) for token_id in ids]
    assert len(ours) == ours.vocabulary_size == theirs.vocabulary_size
    assert ours.unused_ids == theirs.unused_ids[:2]
    with pytest.raises(ValueError, match=f"token id {len(ours)} is not in the vocabulary"):
        ours.token_text(len(ours))
    for call in (ours.tokenize, ours.convert_ids_to_tokens, ours.convert_tokens_to_ids):
        with pytest.raises(TrivecError, match="does not tell how pieces are called"):
            call("a")
