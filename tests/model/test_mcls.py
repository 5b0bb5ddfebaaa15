"""MCLS: one more `<s>` before every so many tokens, their mean as the dense vector, held against a hand reckoning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines import numpy_reference
from sample_texts import SENTENCES
from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.encoding import TruncationWarning

TEXTS = [" ".join(sentences) for sentences in SENTENCES.values()] + ["", "short"]


def by_hand(model: M3Model, text: str, every: int) -> tuple[np.ndarray, dict[int, float], np.ndarray]:
    begin, *words, end = model.tokenizer.encode(text)
    groups = [words[i : i + every] for i in range(0, len(words), every)] or [[]]
    ids = np.array([token for group in groups for token in (begin, *group)] + [end], np.int32)
    return numpy_reference.vectors(model.checkpoint, ids, model.tokenizer.unused_ids, True, every)


@pytest.mark.parametrize("every", [3, 16, 256])
def test_vectors_are_those_reckoned_by_hand(tiny_model: M3Model, every: int) -> None:
    found = tiny_model.encode(TEXTS, mcls=every, return_colbert_vecs=True)
    for i, text in enumerate(TEXTS):
        dense, lexical, token_vectors = by_hand(tiny_model, text, every)
        assert np.abs(found.dense[i] - dense).max() <= 1e-5
        row = found.sparse[i]
        assert dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)) == pytest.approx(lexical, abs=1e-5)
        assert np.abs(found.colbert_vecs[i] - token_vectors).max() <= 1e-5


def test_a_text_with_room_for_one_cls_is_as_ever(tiny_model: M3Model) -> None:
    texts = [text for text in TEXTS if len(tiny_model.tokenizer.encode(text)) <= 258]
    for beyond_any_text in (256, 2**70):
        assert (tiny_model.encode(texts, mcls=beyond_any_text).dense == tiny_model.encode(texts).dense).all()


def test_what_is_added_counts_as_tokens(tiny_model: M3Model) -> None:
    text = " ".join(TEXTS) * 10
    with pytest.warns(TruncationWarning, match="1 of 1 texts had more than max_length=100 tokens"):
        found = tiny_model.encode([text], mcls=9, max_length=100, return_colbert_vecs=True)
    # 99 places before </s>: nine groups of <s> and nine tokens, and one of <s> and eight.
    assert len(found.colbert_vecs[0]) == 9 * 9 + 8 + 1
    assert found.cut == {0}


def test_every_way_to_encode_takes_it(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    expected = tiny_model.encode(TEXTS, mcls=16)
    streamed = np.stack([one.dense for one in tiny_model.encode_stream(TEXTS, mcls=16)])
    assert np.abs(streamed - expected.dense).max() <= 1e-6
    with BGEM3EmbeddingFunction(tiny_checkpoint, mcls=16) as function:
        assert np.abs(np.stack(function.encode_documents(TEXTS)["dense"]) - expected.dense).max() <= 1e-6
    scheduler = tiny_model.scheduler()
    try:
        mixed = [scheduler.submit([text], tiny_model.encoding_settings(mcls=16)) for text in TEXTS]
        plain = [scheduler.submit([text], tiny_model.encoding_settings()) for text in TEXTS]
        assert np.abs(np.concatenate([one.result(60).dense for one in mixed]) - expected.dense).max() <= 1e-5
        whole = tiny_model.encode(TEXTS).dense
        assert np.abs(np.concatenate([one.result(60).dense for one in plain]) - whole).max() <= 1e-5
    finally:
        scheduler.stop()


@pytest.mark.parametrize(("mcls", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_other_values_are_refused_by_name(tiny_model: M3Model, mcls: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="mcls="):
        tiny_model.encode(["a"], mcls=mcls)
