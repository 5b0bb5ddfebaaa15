"""A server with a collection finds what the library finds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.conftest import ask
from serving import Served, serving
from trivec import M3Model
from trivec.milvus import Hit, M3Collection, Weighted

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "turing", "text": "Alan Turing was born in Maida Vale, London.", "metadata": {"year": 1912}},
    {
        "id": "a/b c",
        "text": "Ada Lovelace wrote a program. <script>alert(1)</script>",
        "metadata": {"year": 1843},
    },
    {"id": "3", "text": "สะพานใดในสองสะพานถูกสร้างขึ้นก่อน", "metadata": {"year": 2000, "tags": ["bridge"]}},
]


@pytest.fixture(scope="module")
def uri(tiny_model: M3Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("milvus") / "notes.db"
    with M3Collection("notes", tiny_model, path, token_vectors="fp16") as collection:
        collection.add(DOCUMENTS)
    return path


@pytest.fixture(scope="module")
def wanted(uri: Path, tiny_model: M3Model) -> dict[str, list[Hit]]:
    """What the library finds, looked for before the server has the file."""
    found = {}
    with M3Collection("notes", tiny_model, uri) as collection:
        for mode in ("dense", "sparse", "hybrid", "multi", "all"):
            found[mode] = collection.search("where was Turing born?", mode, matched_words=True)
        found["reranked"] = collection.search("where was Turing born?", rerank="colbert", matched_words=True)
        found["weighted"] = collection.search("where was Turing born?", ranker=Weighted(dense=0.9, sparse=0.1))
        found["filtered"] = collection.search("where was Turing born?", filter="year < 1900")
    return found


@pytest.fixture(scope="module")
def searching(uri: Path, wanted: dict[str, list[Hit]], tiny_checkpoint: Path) -> Iterator[Served]:
    with serving(tiny_checkpoint, "--precision", "fp32", "--uri", str(uri), "--collection", "notes") as served:
        yield served


def found(served: Served, **body: Any) -> list[dict[str, Any]]:
    status, answer, _ = ask(f"{served.url}/search", {"query": "where was Turing born?", **body})
    assert status == 200, answer
    return answer["hits"]


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid", "multi", "all"])
def test_each_mode_finds_what_the_library_finds(searching: Served, wanted: Any, mode: str) -> None:
    hits = found(searching, mode=mode)
    assert [hit["id"] for hit in hits] == [hit.id for hit in wanted[mode]]
    for hit, other in zip(hits, wanted[mode], strict=True):
        assert hit["text"] == other.text
        assert hit["metadata"] == dict(other.metadata)
        assert hit["score"] == pytest.approx(other.score, abs=1e-5)
        scores = {"dense": other.dense_score, "sparse": other.sparse_score, "colbert": other.colbert_score}
        assert hit["scores"] == pytest.approx({kind: score for kind, score in scores.items() if score is not None})
        weights = {one["word"]: one["weight"] for one in hit["matched_words"]}
        assert list(weights) == [word for word, _ in other.matched_words]
        assert weights == pytest.approx(dict(other.matched_words), abs=1e-6)


def test_options_are_those_of_the_library(searching: Served, wanted: Any) -> None:
    reranked = found(searching, rerank="colbert")
    assert [hit["scores"]["colbert"] for hit in reranked] == pytest.approx(
        [hit.colbert_score for hit in wanted["reranked"]], abs=1e-5
    )
    weighted = found(searching, ranker={"kind": "weighted", "dense": 0.9, "sparse": 0.1})
    assert [hit["score"] for hit in weighted] == pytest.approx([hit.score for hit in wanted["weighted"]], abs=1e-5)
    assert [hit["id"] for hit in found(searching, filter="year < 1900")] == [hit.id for hit in wanted["filtered"]]
    everything = [hit["id"] for hit in found(searching)]
    assert [hit["id"] for hit in found(searching, limit=1, offset=1)] == everything[1:2]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"query": " "}, 422, "the query is empty"),
        ({"mode": "best"}, 422, "mode is 'best': it must be one of dense, sparse, hybrid"),
        ({"limit": 0}, 422, "limit is 0"),
        ({"mode": "multi", "rerank": "colbert"}, 422, "ranks by token vectors already"),
        ({"candidates": 1}, 422, "candidates"),
        ({"filter": "year <"}, 424, "year <"),
        ({"filter": 7}, 422, "filter is 7: it must be a text"),
        ({"ranker": "best"}, 422, "ranker is {'kind': 'best'}"),
        ({"ranker": {"kind": "rrf", "dense": 1}}, 422, "ranker: "),
        ({"ranker": "rrf", "mode": "dense"}, 422, "ranker is 'rrf': it must be left out"),
    ],
)
def test_what_cannot_be_searched_is_told(searching: Served, body: Any, status: int, message: str) -> None:
    found_status, answer, _ = ask(f"{searching.url}/search", {"query": "where?", **body})
    assert found_status == status, answer
    assert message in answer["error"]


def test_a_document_is_found_by_its_id(searching: Served) -> None:
    for document in DOCUMENTS:
        quoted = document["id"].replace("/", "%2F").replace(" ", "%20")
        assert ask(f"{searching.url}/documents/{quoted}")[:2] == (200, document)
    status, answer, _ = ask(f"{searching.url}/documents/nobody")
    assert (status, answer["error_type"]) == (404, "NotFound")


def test_a_collection_that_is_not_there_or_of_another_model_ends_it_with_one_line(
    tiny_model: M3Model, tmp_path: Path
) -> None:
    file = tmp_path / "notes.db"
    with M3Collection("notes", tiny_model, file) as collection:
        collection.add(DOCUMENTS)
    for uri, name, said in (
        (tmp_path / "none.db", "notes", "there is no Milvus Lite file"),
        (file, "others", "others"),
        (file, "notes", "its dense vectors have 32 dimensions"),
    ):
        command = [sys.executable, "-m", "trivec", "serve", "nano", "--port", "0", "--uri", str(uri), "-c", name]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
