"""`trivec index` killed without warning, again and again: what was stored stays, and no document is stored twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from random_checkpoint import write_random_checkpoint
from trivec.milvus import M3Collection

# Documents a round: more than are written until it is killed.
DOCUMENTS, KILLS = 1200, 8


def killed_once_it_writes(command, folder, moments):
    """Whether a command was killed before it ended: once it writes, and some moments later, so every step meets it."""

    def written():
        files = (folder / "milvus.db").glob("**/wal/*")
        return {file: file.stat().st_mtime_ns for file in files if file.exists()}

    before = written()
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None and written() == before:
            time.sleep(0.002)
        time.sleep(moments)
        running.send_signal(signal.SIGKILL)
        return running.wait(60) == -signal.SIGKILL


@pytest.mark.slow
def test_kills_while_indexing_lose_and_double_nothing(tiny_model, tiny_checkpoint, tmp_path):
    texts = {f"d{i}": f"text number {i} of a boat and {i * 7 % 100} bridges" for i in range(DOCUMENTS * KILLS // 2)}
    lines = [json.dumps({"id": identifier, "text": text}) for identifier, text in texts.items()]
    command = [sys.executable, "-m", "trivec", "index", "r.jsonl", "--resume", "-m", str(tiny_checkpoint)]
    delays = random.Random(0)
    uri = str(tmp_path / "milvus.db")
    before, killed, interrupted = set(), 0, 0
    while killed < KILLS:
        (tmp_path / "r.jsonl").write_text("\n".join(lines[: (killed + 1) * DOCUMENTS // 2]), encoding="utf-8")
        interrupted += killed_once_it_writes(command, tmp_path, delays.random() * 0.4)
        killed += 1
        with M3Collection("documents", tiny_model, uri=uri) as collection:
            ids = [row["id"] for row in collection._table.listed(["id"])]
            assert len(ids) == len(set(ids)) == collection.count()
            assert before <= set(ids)
            before = set(ids)
    assert interrupted >= 3
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith(f"now holds {len(texts)}")
    with M3Collection("documents", tiny_model, uri=uri) as collection:
        stored = {row["id"]: row["text"] for row in collection._table.listed(["id", "text"])}
        assert stored == {f"{identifier}#1": text for identifier, text in texts.items()}
        (hit,) = collection.search(texts["d7"], "sparse", limit=1, filter='id == "d7#1"')
        assert hit.text == texts["d7"]


@pytest.mark.slow
def test_kills_while_indexing_changed_documents_and_while_encoding_again_lose_nothing(
    tiny_model, tiny_checkpoint, tmp_path, tmp_path_factory
):
    """Both write over rows that are there; encoding again has nothing but these rows to take the texts from."""
    other = write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "other", seed=7)
    uri = str(tmp_path / "milvus.db")
    expected = {f"d{i}#1" for i in range(DOCUMENTS)}

    def write(word):
        lines = [json.dumps({"id": f"d{i}", "text": f"text number {i} of a {word}"}) for i in range(DOCUMENTS)]
        (tmp_path / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def index(*options):
        return [sys.executable, "-m", "trivec", "index", "r.jsonl", *options]

    write("boat")
    subprocess.run(index("-m", str(tiny_checkpoint)), cwd=tmp_path, check=True)
    delays = random.Random(1)
    interrupted = 0
    for kill in range(KILLS):
        write(f"boat of kind {kill}")
        changing = kill % 2 == 0
        command = index() if changing else index("--resume", "--reencode", "-m", str(other))
        interrupted += killed_once_it_writes(command, tmp_path, delays.random() * 0.3)
        with M3Collection("documents", uri=uri) as collection:
            ids = [row["id"] for row in collection._table.listed(["id"])]
            assert len(ids) == len(set(ids)) == collection.count()
            assert set(ids) == expected
        if not changing:
            subprocess.run(index("--reencode", "-m", str(tiny_checkpoint)), cwd=tmp_path, check=True)
    assert interrupted >= 3
    with M3Collection("documents", tiny_model, uri=uri) as collection:
        assert {row["id"] for row in collection._table.listed(["id"])} == expected
