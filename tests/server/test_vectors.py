"""Every route that gives vectors or scores gives those of the library, in its own form."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from trivec import M3Embeddings, M3Model
from trivec.vectors.scoring import colbert_score, dense_score, lexical_score

TEXTS = ["Alan Turing was born in London.", "", "สะพานใดในสองสะพาน", "👍🏽 emoji", "a a a b"]


@pytest.fixture(scope="module")
def expected(tiny_model: M3Model) -> M3Embeddings:
    return tiny_model.encode(TEXTS, return_colbert_vecs=True)


def array(given: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(given["data"]), given["dtype"]).reshape(given["shape"])


def test_encode_gives_numbers(post: Any, expected: M3Embeddings, tiny_model: M3Model) -> None:
    found = post("/encode", inputs=TEXTS, **{"return": ["dense", "sparse", "colbert"], "encoding": "float"})
    assert found["model"].endswith("tiny")
    assert (np.float32(found["dense"]) == expected.dense).all()
    for row, wanted in zip(found["sparse"], expected.sparse, strict=True):
        assert row["indices"] == wanted.indices.tolist()
        assert (np.float32(row["values"]) == wanted.data).all()
    for vectors, wanted in zip(found["colbert"], expected.colbert_vecs, strict=True):
        assert (np.float32(vectors) == wanted).all()
    tokens = sum(len(ids) for ids in tiny_model.tokenizer.encode_batch(TEXTS, 1024).token_ids)
    assert found["usage"] == {"tokens": tokens, "truncated": 0, "cut": []}


def test_encode_gives_bytes(post: Any, expected: M3Embeddings) -> None:
    kinds = ["dense", "sparse", "colbert"]
    found = post("/encode", inputs=TEXTS, **{"return": kinds, "encoding": "base64"})
    assert (array(found["dense"]) == expected.dense).all()
    sparse = found["sparse"]
    assert sparse["shape"] == list(expected.sparse.shape)
    assert array(sparse["indptr"]).tolist() == expected.sparse.indptr.tolist()
    assert array(sparse["indices"]).tolist() == expected.sparse.indices.tolist()
    assert (array(sparse["values"]) == expected.sparse.data).all()
    assert all((array(a) == b).all() for a, b in zip(found["colbert"], expected.colbert_vecs, strict=True))
    half = post("/encode", inputs=TEXTS, **{"return": ["colbert"], "dtype": "float16"})
    assert sorted(half) == ["colbert", "model", "usage"]
    for vectors, wanted in zip(half["colbert"], expected.colbert_vecs, strict=True):
        assert (array(vectors) == wanted.astype(np.float16)).all()


def test_by_default_a_text_has_dense_and_sparse_vectors(post: Any) -> None:
    found = post("/encode", inputs="one text")
    assert (len(found["dense"]), len(found["sparse"]), "colbert" in found) == (1, 1, False)


def test_length_and_normalization_are_heeded(post: Any, tiny_model: M3Model) -> None:
    text = "many words in this text, more than are read"
    found = post("/encode", inputs=["short", text], max_length=6, normalize=False)
    with pytest.warns(UserWarning, match="1 of 2 texts had more than max_length=6"):
        wanted = tiny_model.encode(["short", text], max_length=6, normalize=False)
    assert (np.float32(found["dense"]) == wanted.dense).all()
    assert found["usage"]["truncated"] == 1
    assert found["usage"]["cut"] == [1]


def test_long_texts_may_be_read_with_more_cls(post: Any, tiny_model: M3Model) -> None:
    text = "many words in this text, " * 20
    wanted = tiny_model.encode([text], mcls=16).dense
    assert (np.float32(post("/encode", inputs=text, mcls=16)["dense"]) == wanted).all()
    # As JavaScript may write it, and more than any text has.
    assert (np.float32(post("/encode", inputs=text, mcls=16.0)["dense"]) == wanted).all()
    assert post("/encode", inputs=text, mcls=2**53)["dense"] == post("/encode", inputs=text)["dense"]


def test_pairs_are_scored_in_five_modes(post: Any, tiny_model: M3Model) -> None:
    pairs = [(TEXTS[0], TEXTS[4]), ("a b", "b c"), ("x", "")] * 9
    found = post("/score", pairs=pairs, weights=[0.4, 0.2, 0.4])
    wanted = tiny_model.compute_score(pairs, [0.4, 0.2, 0.4])
    assert set(found) == {"model", "usage", *wanted}
    for mode, scores in wanted.items():
        np.testing.assert_allclose(found[mode], scores, atol=1e-5)


def test_the_tokens_of_a_text_have_weights(post: Any, tiny_model: M3Model) -> None:
    found = post("/token_weights", inputs=TEXTS[0])
    assert [(token, weight) for token, weight in found] == tiny_model.token_weights(TEXTS[0])


def test_openai_gives_numbers_and_bytes_and_on_request_more(post: Any, expected: M3Embeddings) -> None:
    for path in ("/v1/embeddings", "/embeddings", "//v1/embeddings"):
        found = post(path, input=TEXTS, model="any", dimensions=32, user="me")
        assert found["object"] == "list"
        assert [item["index"] for item in found["data"]] == list(range(len(TEXTS)))
        assert (np.float32([item["embedding"] for item in found["data"]]) == expected.dense).all()
    found = post("/v1/embeddings", input=TEXTS, encoding_format="base64", **{"return": ["sparse", "colbert"]})
    for i, item in enumerate(found["data"]):
        assert (np.frombuffer(base64.b64decode(item["embedding"]), np.float32) == expected.dense[i]).all()
        assert item["sparse"]["indices"] == expected.sparse[i].indices.tolist()
        assert (array(item["colbert"]) == expected.colbert_vecs[i]).all()


def test_the_routes_of_tei(post: Any, expected: M3Embeddings) -> None:
    assert (np.float32(post("/embed", inputs=TEXTS)) == expected.dense).all()
    assert (np.float32(post("/", inputs=TEXTS, parameters={})) == expected.dense).all()
    for row, wanted in zip(post("/embed_sparse", inputs=TEXTS), expected.sparse, strict=True):
        assert [cell["index"] for cell in row] == wanted.indices.tolist()
        np.testing.assert_allclose([cell["value"] for cell in row], wanted.data, rtol=1e-7)
    for vectors, wanted in zip(post("/embed_all", inputs=TEXTS), expected.colbert_vecs, strict=True):
        assert (np.float32(vectors) == wanted).all()
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    cosines = expected.dense[1:] @ expected.dense[0]
    np.testing.assert_allclose(post("/similarity", inputs=inputs), cosines, atol=1e-5)
    np.testing.assert_allclose(post("/", inputs=inputs, parameters={}), cosines, atol=1e-5)


def test_tokens_come_with_their_places_and_go_back(post: Any, tiny_model: M3Model) -> None:
    (tokens,) = post("/tokenize", inputs="Alan Turing 👍")
    assert (tokens[0]["text"], tokens[0]["special"], tokens[0]["start"]) == ("<s>", True, None)
    inner = [token for token in tokens if not token["special"]]
    assert [token["id"] for token in tokens] == tiny_model.tokenizer.encode("Alan Turing 👍")
    spans = [(token["start"], token["stop"]) for token in inner]
    assert spans == tiny_model.tokenizer.token_spans("Alan Turing 👍")
    ids = [token["id"] for token in post("/tokenize", inputs="Alan Turing", add_special_tokens=False)[0]]
    assert post("/decode", ids=ids) == ["Alan Turing"] == post("/decode", ids=[ids])


@pytest.mark.parametrize("direction", ["Left", "left"])
def test_a_text_that_is_too_long_can_lose_its_start(post: Any, tiny_model: M3Model, direction: str) -> None:
    text = "first " + "word " * 1100 + "last"
    (found,) = post("/embed", inputs=text, truncation_direction=direction)
    ids = tiny_model.tokenizer.encode(text)
    kept = tiny_model.tokenizer.decode(ids[len(ids) - 1023 :], skip_special_tokens=True)
    (wanted,) = tiny_model.encode([kept], return_sparse=False).dense
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not np.allclose(found, post("/embed", inputs=text)[0], atol=1e-5)


@pytest.mark.parametrize("mode", ["colbert", "dense", "sparse", "sparse+dense", "colbert+sparse+dense", None])
def test_documents_are_ordered_by_their_scores(
    post: Any, tiny_model: M3Model, expected: M3Embeddings, mode: str | None
) -> None:
    query = "where was Turing born?"
    scores = tiny_model.compute_score([(query, text) for text in TEXTS])[mode or "colbert"]
    order = sorted(range(len(TEXTS)), key=lambda i: -scores[i])
    more = {"mode": mode} if mode else {}
    best_first = post("/rerank", query=query, texts=TEXTS, return_text=True, **more)
    assert [one["index"] for one in best_first] == order
    assert [one["text"] for one in best_first] == [TEXTS[i] for i in order]
    np.testing.assert_allclose([one["score"] for one in best_first], sorted(scores, reverse=True), atol=1e-5)
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        given = [TEXTS[0], *({"text": text} for text in TEXTS[1:])]
        found = post(path, query=query, documents=given, top_n=3, return_documents=True, model="any", **more)
        assert [one["index"] for one in found["results"]] == order[:3]
        assert found["results"][0]["document"] == {"text": TEXTS[order[0]]}


def test_single_scores_are_those_of_the_vectors(post: Any, tiny_model: M3Model, expected: M3Embeddings) -> None:
    query, document = expected[0], expected[4]
    for mode, wanted in {
        "dense": dense_score(query.dense, document.dense),
        "sparse": lexical_score(query.sparse, document.sparse),
        "colbert": colbert_score(query.colbert_vecs, document.colbert_vecs),
    }.items():
        (found,) = post("/rerank", query=TEXTS[0], texts=[TEXTS[4]], mode=mode)
        assert found["score"] == pytest.approx(wanted, abs=1e-5)
