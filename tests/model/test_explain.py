"""Why a text matches a query: words, weights and nearness are those of the vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import write_random_checkpoint
from trivec import M3Model

QUERY = "Where was Turing born?"
TEXT = "Alan Turing was born in Maida Vale, London. 東京は日本です。 สะพาน हिन्दी"


@pytest.fixture(scope="module")
def nano() -> M3Model:
    return M3Model.load("nano", precision="fp32")


def test_words_are_those_that_people_see(nano: M3Model) -> None:
    found = nano.explain(QUERY, TEXT)
    assert [QUERY[word.start : word.end] for word in found.query_words] == ["Where", "was", "Turing", "born", "?"]
    words = [TEXT[word.start : word.end] for word in found.text_words]
    assert words[:11] == ["Alan", "Turing", "was", "born", "in", "Maida", "Vale", ",", "London", ".", words[10]]
    assert "हिन्दी" in words
    assert "東京は日本です。" not in words


def test_nearness_is_that_of_the_token_vectors(nano: M3Model) -> None:
    found = nano.explain(QUERY, TEXT)
    assert found.alignment.shape == (len(found.query_words), len(found.text_words))
    embeddings = nano.encode([QUERY, TEXT], return_colbert_vecs=True)
    products = embeddings.colbert_vecs[0] @ embeddings.colbert_vecs[1].T
    # "born?" - the last word of the query is one token, and so is its last vector but that of </s>.
    assert found.alignment[-1].max() == pytest.approx(products[-2][:-1].max(), abs=1e-5)
    best, _ = found.best(2)[0]
    assert TEXT[found.text_words[best].start : found.text_words[best].end] == "Turing"


def test_weights_and_scores_are_the_models(nano: M3Model) -> None:
    found = nano.explain(QUERY, TEXT)
    scores = nano.compute_score((QUERY, TEXT))
    assert dict(found.scores) == pytest.approx(scores, abs=1e-5)
    weights = [weight for _, weight in nano.token_weights(QUERY)]
    assert sum(word.weight for word in found.query_words) == pytest.approx(sum(weights), abs=1e-4)


def test_a_long_text_is_explained_as_far_as_it_is_read(nano: M3Model) -> None:
    found = nano.explain(QUERY, "bridge " * 5000, max_length=64)
    assert found.truncated
    assert 0 < len(found.text_words) <= 62
    assert found.alignment.shape[1] == len(found.text_words)
    assert not nano.explain("", "").truncated


def test_a_model_without_heads_explains_what_it_can(tmp_path: Path) -> None:
    with M3Model.load(write_random_checkpoint(tmp_path / "dense-only", heads=()), precision="fp32") as model:
        found = model.explain("a b", "b c")
        assert list(found.scores) == ["dense"]
        assert found.alignment is None
        with pytest.raises(ValueError, match="no token vectors"):
            found.best(0)


def test_it_goes_as_json(nano: M3Model) -> None:
    found = nano.explain(QUERY, TEXT)
    back = json.loads(json.dumps(found.to_dict()))
    assert back["query_words"][0]["weight"] == found.query_words[0].weight
    assert np.abs(np.array(back["alignment"]) - found.alignment).max() < 1e-4
