"""Each extra in an environment of its own: what it is for works there, and what another one brings is named."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from installation.conftest import ROOT, Installed
from serving import serving
from trivec import M3Model
from type_checkers import CHECKERS, faults

TEXTS = ["The harbour lies behind the old bridge.", "Die Brücke wurde 1723 gebaut.", "一艘小船驶过湖面。"]
NANO = ("--model", "nano", "--precision", "fp32")
Install = Callable[[str], Installed]


@pytest.fixture(scope="module")
def expected() -> list[list[float]]:
    """Dense vectors of `TEXTS`, as the tests' own environment computes them."""
    with M3Model.load("nano", precision="fp32") as model:
        return model.encode(TEXTS).dense.tolist()


def assert_same(found: Any, expected: list[list[float]]) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() < 1e-5


def records(folder: Path) -> Path:
    """`TEXTS` as documents."""
    return written(folder / "texts.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])


def pairs(folder: Path) -> Path:
    """`TEXTS` with a question each."""
    return written(folder / "pairs.jsonl", [{"query": f"What of text {i}?", "pos": [TEXTS[i]]} for i in range(3)])


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_core(install: Install, expected: list[list[float]]) -> None:
    core = install("")
    code = f"""
import json, trivec
with trivec.M3Model.load("nano", precision="fp32") as model:
    vectors = model.encode({TEXTS}, return_colbert_vecs=True)
assert len(vectors.sparse) == len(vectors.colbert_vecs) == {len(TEXTS)}
print(json.dumps([trivec.__file__, vectors.dense.tolist()]))
"""
    place, dense = json.loads(core.run("python", "-c", code))
    assert Path(place).is_relative_to(core.bin.parent)
    assert_same(dense, expected)
    code = "from pymilvus.model.hybrid import BGEM3EmbeddingFunction as f; print(f.__module__)"
    assert core.run("python", "-c", code) == "trivec.embedding_function\n"

    texts = records(core.work)
    lines = core.run("trivec", "encode", texts, "--jsonl", *NANO).splitlines()
    assert_same([json.loads(line)["dense"] for line in lines], expected)
    core.run("trivec", "encode", texts, "--out", "vectors.npz", *NANO)
    assert_same(np.load(core.work / "vectors.npz")["dense"], expected)
    assert json.loads(core.run("trivec", "info", "nano", "--json"))["kind"] == "embeddings"
    assert json.loads(core.run("trivec", "verify", "nano", "--texts", texts, "--json"))["texts"] == len(TEXTS)

    for extra, *command in (
        ("milvus", "index", texts, *NANO, "--uri", "milvus.db", "--collection", "notes"),
        ("milvus", "mine", pairs(core.work), "mined.jsonl", *NANO),
        ("server", "serve", "nano"),
        ("eval", "eval", "nano", pairs(core.work)),
        ("parquet", "encode", texts, "--out", "vectors.parquet", *NANO),
        ("cuda", "encode", texts, "--out", "more.npz", "--model", "nano", "--device", "cuda"),
        ("train", "train", pairs(core.work), "--model", "nano", "--out", "mine"),
    ):
        told = core.run("trivec", *command, status=1)
        assert f'run `pip install "trivec[{extra}]"`' in told, told


def test_milvus(install: Install, tmp_path: Path) -> None:
    milvus = install("milvus")
    code = f"""
from pymilvus.model.hybrid import BGEM3EmbeddingFunction
from trivec import M3Model
from trivec.milvus import M3Collection
assert BGEM3EmbeddingFunction.__module__ == "trivec.embedding_function"
with M3Model.load("nano") as model, M3Collection("notes", model, uri="python.db") as notes:
    notes.add({TEXTS})
    print(notes.search("Where is the harbour?", mode="hybrid", rerank="colbert")[0].text)
"""
    assert milvus.run("python", "-c", code) == f"{TEXTS[0]}\n"
    collection = (*NANO, "--uri", "shell.db", "--collection", "notes")
    milvus.run("trivec", "index", records(milvus.work), *collection)
    found = json.loads(milvus.run("trivec", "search", "Where is the harbour?", *collection, "--json"))
    assert found["hits"][0]["text"] == TEXTS[0]
    # Of the package as it is installed, for which it must say that it has types.
    for checker in CHECKERS:
        assert faults(checker, milvus.bin / "python", tmp_path, ROOT / "tests" / "typed_use.py") == []


def test_server(install: Install, expected: list[list[float]]) -> None:
    installed = install("server")
    # It must end with 0 after SIGTERM.
    with serving("nano", "--precision", "fp32", trivec=[installed.bin / "trivec"]) as server:
        body = json.dumps({"inputs": TEXTS}).encode()
        with urllib.request.urlopen(f"{server.url}/encode", body, timeout=60) as answer:
            assert_same(json.load(answer)["dense"], expected)
        with urllib.request.urlopen(f"{server.url}/", timeout=60) as answer:
            assert b"<title>" in answer.read()


def test_eval(install: Install) -> None:
    installed = install("eval")
    figures = ("--json", "figures.json", "--chart", "figures.svg")
    shown = installed.run("trivec", "eval", "nano", pairs(installed.work), "--precision", "fp32", *figures)
    assert "bm25-words" in shown
    (dataset,) = json.loads((installed.work / "figures.json").read_text())["datasets"]
    assert (dataset["queries"], dataset["documents"]) == (3, 3)
    assert "<svg" in (installed.work / "figures.svg").read_text()


def test_parquet(install: Install, expected: list[list[float]]) -> None:
    parquet = install("parquet")
    parquet.run("trivec", "encode", records(parquet.work), "--out", "vectors.parquet", *NANO)
    code = """
import json, pyarrow.parquet as pq
print(json.dumps(pq.read_table("vectors.parquet", columns=["id", "dense"]).to_pydict()))
pq.write_table(pq.read_table("vectors.parquet", columns=["id"]).rename_columns(["text"]), "texts.parquet")
"""
    found = json.loads(parquet.run("python", "-c", code))
    assert found["id"] == ["0", "1", "2"]
    assert_same(found["dense"], expected)
    assert len(parquet.run("trivec", "encode", "texts.parquet", "--jsonl", *NANO).splitlines()) == len(TEXTS)
