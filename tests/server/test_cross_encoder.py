"""`trivec serve --reranker`: /rerank and /search by a cross-encoder."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sample_texts import SENTENCES
from server.conftest import ask
from serving import Served, serving
from trivec import M3Model, M3Reranker
from trivec.errors import TrivecError
from trivec.milvus import M3Collection

TEXTS = [text for language in SENTENCES.values() for text in language]
QUERY = "Which bridge was built first?"


@pytest.fixture(scope="module")
def server(
    tiny_checkpoint: Path,
    tiny_model: M3Model,
    tiny_reranker_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    uri = tmp_path_factory.mktemp("lite") / "served.db"
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(({"id": str(i), "text": text} for i, text in enumerate(TEXTS)), show_progress=False)
    options = ("--precision", "fp32", "--max-length", "200", "--uri", str(uri), "--collection", "texts")
    with serving(tiny_checkpoint, "--reranker", str(tiny_reranker_checkpoint), *options) as served:
        yield served


@pytest.fixture
def post(server: Served) -> Callable[..., Any]:
    def call(path: str, wanted: int = 200, **body: Any) -> Any:
        status, found, _ = ask(server.url + path, body)
        assert status == wanted, found
        return found

    return call


def test_it_is_the_default(post: Callable[..., Any], tiny_reranker: M3Reranker) -> None:
    for more in ({}, {"mode": "cross-encoder"}):
        found = post("/rerank", query=QUERY, texts=TEXTS, **more)
        wanted = tiny_reranker.rank(QUERY, TEXTS, normalize=True)
        assert [one["index"] for one in found] == [one.index for one in wanted]
        assert [one["score"] for one in found] == pytest.approx([one.score for one in wanted], abs=1e-5)
    raw = post("/rerank", query=QUERY, texts=TEXTS, raw_scores=True)
    wanted = tiny_reranker.rank(QUERY, TEXTS)
    assert [one["score"] for one in raw] == pytest.approx([one.score for one in wanted], abs=1e-5)
    cohere = post("/v2/rerank", query=QUERY, documents=TEXTS, top_n=2, return_documents=True)
    assert [one["document"]["text"] for one in cohere["results"]] == [one.text for one in wanted[:2]]
    assert cohere["usage"]["total_tokens"] > len(TEXTS)


def test_modes_of_vectors_are_still_there(post: Callable[..., Any], tiny_model: M3Model) -> None:
    (found,) = post("/rerank", query=TEXTS[0], texts=[TEXTS[4]], mode="colbert")
    assert found["score"] == pytest.approx(tiny_model.compute_score((TEXTS[0], TEXTS[4]))["colbert"], abs=1e-5)


def test_long_texts(post: Callable[..., Any], tiny_reranker: M3Reranker) -> None:
    long = " ".join(TEXTS)
    (found,) = post("/rerank", query=QUERY, texts=[long])
    with pytest.warns(UserWarning, match="max_length=200"):
        wanted = tiny_reranker.compute_score((QUERY, long), max_length=200, normalize=True)
    assert found["score"] == pytest.approx(wanted, abs=1e-5)
    refused = post("/rerank", 422, query=QUERY, texts=["a lake", long], truncate=False)
    assert "query and text 1 have more than 200 tokens" in refused["error"]
    assert (
        "truncation_direction" in post("/rerank", 422, query=QUERY, texts=["a"], truncation_direction="Left")["error"]
    )


def test_search(post: Callable[..., Any], tiny_reranker: M3Reranker) -> None:
    candidates = post("/search", query=QUERY, limit=9)["hits"]
    wanted = tiny_reranker.rank(QUERY, [hit["text"] for hit in candidates], 3, normalize=True)
    hits = post("/search", query=QUERY, limit=3, candidates=9, rerank="cross-encoder")["hits"]
    assert [hit["text"] for hit in hits] == [found.text for found in wanted]
    assert [hit["score"] for hit in hits] == pytest.approx([found.score for found in wanted], abs=1e-5)
    assert hits[0]["scores"]["cross-encoder"] == hits[0]["score"]
    assert hits[0]["scores"].keys() == {"dense", "sparse", "cross-encoder"}


def test_what_the_server_says_of_it(server: Served, tiny_reranker_checkpoint: Path) -> None:
    _, found, _ = ask(f"{server.url}/info")
    assert found["trivec"]["reranker"] == {
        "name": str(tiny_reranker_checkpoint),
        "precision": "fp32",
        "max_length": 200,
    }
    assert f"reranking with {tiny_reranker_checkpoint}" in "".join(server.said)


def test_a_reranker_behind_a_url(server: Served, tiny_reranker: M3Reranker) -> None:
    pairs = [(QUERY, text) for text in TEXTS] + [(TEXTS[0], TEXTS[1]), ("", "\ud800")]
    with M3Reranker.load(server.url) as remote:
        assert (remote.precision, remote.max_length) == ("fp32", 200)
        assert remote.compute_score(pairs) == pytest.approx(tiny_reranker.compute_score(pairs), abs=1e-5)
        assert list(remote.score_stream(iter(pairs))) == pytest.approx(tiny_reranker.compute_score(pairs), abs=1e-5)
        ranked = remote.rank(QUERY, TEXTS, 3, normalize=True)
        assert [one.index for one in ranked] == [one.index for one in tiny_reranker.rank(QUERY, TEXTS, 3)]
        assert 0 < ranked[0].score < 1
        assert remote.compute_score([]) == []
        assert "which serves" in repr(remote)
        with pytest.warns(UserWarning, match="1 of 1 pairs had more than max_length=200"):
            remote.rank(QUERY, [" ".join(TEXTS)])
        with pytest.raises(ValueError, match="the server decides"):
            remote.compute_score(pairs, query_max_length=9)
        received = pickle.loads(pickle.dumps(remote))
        assert received.compute_score(pairs[0]) == pytest.approx(tiny_reranker.compute_score(pairs[0]), abs=1e-5)
        received.close()
    with pytest.raises(TrivecError, match="closed"):
        remote.compute_score(pairs)
    with pytest.raises(ValueError, match="the server decides"):
        M3Reranker.load(server.url, precision="bf16")
