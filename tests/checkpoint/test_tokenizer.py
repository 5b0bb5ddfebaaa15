"""Token ids as the XLM-R layout has them, whatever the text holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.checkpoint.tokenizer import M3Tokenizer

TEXTS = [text for texts in SENTENCES.values() for text in texts]


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> M3Tokenizer:
    return M3Tokenizer(tiny_checkpoint / "tokenizer.json")


def test_a_text_lies_between_begin_and_end(tokenizer: M3Tokenizer) -> None:
    for ids in tokenizer.encode_batch([*TEXTS, "", "  \n\t "], 1024).token_ids:
        assert (ids[0], ids[-1]) == (0, 2)
    assert tokenizer.encode_batch([""], 1024).token_ids[0].tolist() == [0, 2]


def test_truncation_keeps_the_start_and_counts(tokenizer: M3Tokenizer) -> None:
    whole = tokenizer.encode_batch(TEXTS, 1024)
    cut = tokenizer.encode_batch(TEXTS, 10)
    assert whole.cut == frozenset()
    assert cut.cut == {i for i, ids in enumerate(whole.token_ids) if len(ids) > 10} != set()
    for long, short in zip(whole.token_ids, cut.token_ids, strict=True):
        assert len(short) == min(len(long), 10)
        assert short.tolist() == [*long[: len(short) - 1], 2]


def test_lone_surrogates_count_as_replacement_characters(tokenizer: M3Tokenizer) -> None:
    odd, plain = tokenizer.encode_batch(["boat \udc80 lake", "boat \ufffd lake"], 1024).token_ids
    assert odd.tolist() == plain.tolist()
    assert tokenizer.token_spans("boat \udc80 lake") == tokenizer.token_spans("boat \ufffd lake")


def test_spans_point_into_the_text(tokenizer: M3Tokenizer) -> None:
    text = "Boats  cross\tthe ﬁne lake 🚣 über Nacht"
    spans = tokenizer.token_spans(text)
    assert len(spans) == len(tokenizer.encode_batch([text], 1024).token_ids[0]) - 2
    covered = {i for start, end in spans for i in range(start, end)}
    assert {i for i, char in enumerate(text) if not char.isspace()} <= covered
    assert spans == sorted(spans)


def test_token_text_is_readable(tokenizer: M3Tokenizer) -> None:
    ids = tokenizer.encode_batch(["three vectors"], 1024).token_ids[0][1:-1]
    assert "".join(map(tokenizer.token_text, ids)).replace("▁", "") == "threevectors"
    with pytest.raises(ValueError, match="token id 99999"):
        tokenizer.token_text(99999)


def test_threads_share_it(tokenizer: M3Tokenizer) -> None:
    wanted = [ids.tolist() for ids in tokenizer.encode_batch(TEXTS, 12).token_ids]
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: tokenizer.encode_batch(TEXTS, 12), range(64)):
            assert [ids.tolist() for ids in result.token_ids] == wanted


def test_the_real_tokenizer_gives_the_published_tokens(xlmr_tokenizer: Path, published: dict) -> None:
    tokenizer = M3Tokenizer(xlmr_tokenizer / "tokenizer.json")
    assert tokenizer.vocabulary_size == 250_002
    page = published["flagembedding_bge_m3_page"]
    for text, weights in zip(page["sentences_1"], page["lexical_weights_1"], strict=True):
        ids = tokenizer.encode_batch([text], 8192).token_ids[0][1:-1]
        assert [tokenizer.token_text(i) for i in ids if tokenizer.token_text(i) != "▁"] == list(weights)


def test_model_reads_up_to_its_own_limit(tiny_model: M3Model) -> None:
    assert tiny_model.max_length == 1024
    for wrong in (1, 0, -5, 1025):
        with pytest.raises(ValueError, match=f"max_length={wrong} must lie between 2 and the model's limit of 1024"):
            tiny_model.encode(TEXTS, max_length=wrong)


def marked(function: BGEM3EmbeddingFunction, query: str, document: str) -> str:
    """Put brackets around what a document shares with a query, by the calls of Milvus' hybrid search tutorial."""
    tokenizer = function.model.tokenizer
    of_query = tokenizer.convert_ids_to_tokens(tokenizer.encode(query, return_offsets_mapping=True))
    encoding = tokenizer.encode_plus(document, return_offsets_mapping=True)
    pieces = tokenizer.convert_ids_to_tokens(encoding["input_ids"])[1:-1]
    shared = [span for piece, span in zip(pieces, encoding["offset_mapping"][1:-1], strict=True) if piece in of_query]
    for start, end in reversed(shared):
        document = f"{document[:start]}[{document[start:end]}]{document[end:]}"
    return document


def test_the_highlighting_of_the_tutorial() -> None:
    with BGEM3EmbeddingFunction("nano") as function:
        assert marked(function, "Who was Alan Turing?", "In 1950 Alan met Ada.") == "In 1950 [Al][an] met Ada."


def test_calls_as_of_hugging_face(tokenizer: M3Tokenizer) -> None:
    text = "A small boat crossed the lake."
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode_batch([text], 1024).token_ids[0].tolist()
    assert tokenizer.encode(text, add_special_tokens=False) == ids[1:-1]
    one = tokenizer(text, return_offsets_mapping=True)
    assert one["input_ids"] == ids
    assert one["attention_mask"] == [1] * len(ids)
    assert (one["offset_mapping"][0], one["offset_mapping"][-1]) == ((0, 0), (0, 0))
    assert tokenizer([text, ""])["input_ids"] == [ids, [0, 2]]
    assert tokenizer(text, truncation=True, max_length=5)["input_ids"] == [*ids[:4], 2]
    assert tokenizer(text, truncation=True, max_length=5, return_offsets_mapping=True)["offset_mapping"][-1] == (0, 0)
    assert tokenizer(text, truncation=True, max_length=3, add_special_tokens=False)["input_ids"] == ids[1:4]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert (pieces[0], pieces[-1]) == ("<s>", "</s>")
    assert pieces[1:-1] == tokenizer.tokenize(text)
    assert tokenizer.convert_tokens_to_ids(pieces) == ids
    assert tokenizer.convert_ids_to_tokens(np.int64(2)) == "</s>"
    assert tokenizer.convert_tokens_to_ids("no such piece") == tokenizer.convert_tokens_to_ids("<unk>")
    assert tokenizer.convert_ids_to_tokens([10**6]) == [None]
    assert len(tokenizer) == tokenizer.vocab_size == tokenizer.vocabulary_size
    assert tokenizer.decode(np.array(ids), skip_special_tokens=True) == text
    assert tokenizer.decode(ids).startswith("<s>")
    with pytest.raises(TypeError, match="return_tensors"):
        tokenizer(text, return_tensors="pt")
