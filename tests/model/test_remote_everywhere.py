"""What takes a model takes the URL of one: the embedding function, collections and the commands of the shell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_texts import SENTENCES
from serving import Served
from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.cli.app import run
from trivec.errors import CollectionMismatchError
from trivec.milvus import M3Collection

TEXTS = [text for texts in SENTENCES.values() for text in texts][:12]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in an empty folder and return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    file = tmp_path / "notes.jsonl"
    rows = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_the_embedding_function(model_server: Served, tiny_checkpoint: Path) -> None:
    options = {"return_colbert_vecs": True, "query_max_length": 8, "batch_size": 2}
    with (
        BGEM3EmbeddingFunction(model_server.url, use_fp16=False, **options) as remote,
        BGEM3EmbeddingFunction(tiny_checkpoint, **options) as here,
    ):
        assert remote.dim == here.dim
        for name in ("encode_documents", "encode_queries"):
            texts = TEXTS if name == "encode_documents" else ["a boat"]
            found, wanted = getattr(remote, name)(texts), getattr(here, name)(texts)
            assert list(found) == list(wanted)
            assert np.abs(np.stack(found["dense"]) - np.stack(wanted["dense"])).max() <= 1e-5
            assert abs(found["sparse"] - wanted["sparse"]).max() <= 1e-5
    for name, value in {"use_fp16": True, "device": "cpu", "precision": "fp32", "num_threads": 1}.items():
        with pytest.raises(ValueError, match=f"{name}=.* cannot be given with a URL: the server decides"):
            BGEM3EmbeddingFunction(model_server.url, **{name: value})


def test_a_collection(remote: M3Model, tiny_model: M3Model, tmp_path: Path, tiny_checkpoint: Path) -> None:
    uri = str(tmp_path / "notes.db")
    with M3Collection("notes", remote, uri=uri) as notes:
        notes.add([{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
        record = notes.recorded_model
        assert (record.name, record.fingerprint, record.precision) == (remote.name, tiny_model.fingerprint, "fp32")
        hits = {
            mode: notes.search("a boat on the lake", mode, matched_words=True, rerank="colbert")
            for mode in ("dense", "sparse", "hybrid")
        }
    with M3Collection("notes", tiny_model, uri=uri) as notes:  # the same model, wherever it computes
        for mode, found in hits.items():
            wanted = notes.search("a boat on the lake", mode, matched_words=True, rerank="colbert")
            assert [hit.id for hit in found] == [hit.id for hit in wanted]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
            words = [[word for word, _ in hit.matched_words] for hit in found]
            assert words == [[word for word, _ in hit.matched_words] for hit in wanted]
    with M3Collection("notes", uri=uri) as notes:  # the one that it names: the server
        assert notes.search("a boat", "dense", limit=1)
        assert notes.model.name == remote.name
    with M3Model.load("nano") as other, pytest.raises(CollectionMismatchError):
        M3Collection("notes", other, uri=uri)


def test_encode(command: Command, notes: Path, model_server: Served, tiny_checkpoint: Path) -> None:
    common = ("encode", notes, "--jsonl", "--colbert")
    code, remote, told = command(*common, "--model", model_server.url)
    assert (code, told) == (0, "")
    _, here, _ = command(*common, "--model", tiny_checkpoint, "--precision", "fp32")
    assert remote == here


def test_index_and_search(command: Command, notes: Path, model_server: Served) -> None:
    code, _, told = command("index", notes, "--model", model_server.url, "-c", "notes", "--chunk-tokens", 20)
    assert (code, "12 documents" in told) == (0, True), told
    code, found, told = command("search", "a boat on the lake", "-c", "notes", "--rerank", "colbert", "--json")
    assert (code, told) == (0, "")
    assert json.loads(found)["hits"][0]["matched_words"] is not None


def test_info(command: Command, model_server: Served, tiny_model: M3Model) -> None:
    code, found, _ = command("info", model_server.url, "--json")
    facts = json.loads(found)
    assert code == 0
    assert (facts["server"], facts["fingerprint"]) == (model_server.url, tiny_model.fingerprint)
    assert (facts["precision"], facts["vectors"], facts["texts_in_a_request"]) == ("fp32", tiny_model.dim, 32)
    assert "tokens in the queue" in command("info", model_server.url)[1]


def test_eval_and_mine(command: Command, tmp_path: Path, model_server: Served) -> None:
    rows = [{"query": text.split(".")[0][:30], "pos": [text]} for text in TEXTS]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, found, told = command("eval", model_server.url, "test.jsonl", "--no-cache")
    assert code == 0, told
    for mode in ("dense", "sparse", "multi-vector", "bm25-pieces"):
        assert mode in found
    code, _, told = command("eval", model_server.url, "test.jsonl", "--tune-fusion", "test.jsonl", "--save-fusion")
    assert code == 2
    assert "is not a model folder" in told
    code, _, told = command("mine", "test.jsonl", "train.jsonl", "--model", model_server.url, "--ranks", "1-5")
    assert code == 0, told
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == len(TEXTS)


def test_verify(command: Command, notes: Path, model_server: Served) -> None:
    code, _, told = command("verify", model_server.url)
    assert code == 1
    assert "published values agree (computed in fp32)" in told
    code, _, told = command("verify", model_server.url, "--texts", notes)
    assert code == 2
    assert "computes in one: give the model itself" in told


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--device", "cuda"], "--device cuda"),
        (["--precision", "bf16"], "--precision bf16"),
        (["--engine", "torch"], "--engine torch"),
        (["--threads", "2"], "--threads 2"),
        (["--no-cache"], "--no-cache"),
        (["--offline"], "--offline"),
        (["--revision", "main"], "--revision main"),
    ],
)
def test_what_the_server_decides(options: list[str], named: str, command: Command, notes: Path) -> None:
    code, _, told = command("encode", notes, "--jsonl", "--model", "http://127.0.0.1:9", *options)
    assert (code, told) == (1, f"error: {named} cannot be given with a URL: the server decides\n")


@pytest.mark.parametrize("arguments", [["serve", "http://host:1"], ["download", "http://host:1"]])
def test_commands_that_need_the_files(arguments: list[Any], command: Command) -> None:
    code, _, told = command(*arguments)
    assert code in (1, 2)
    assert "name a folder or a hub id" in told


def test_a_server_that_is_not_there(command: Command, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivec.model.remote.PATIENCE_AT_FIRST", 0.3)
    code, _, told = command("encode", notes, "--jsonl", "--model", "http://127.0.0.1:9")
    assert code == 1
    assert told.startswith("error: http://127.0.0.1:9 cannot be reached")
    assert len(told.splitlines()) == 1
