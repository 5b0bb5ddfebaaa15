"""From an object store into an object store: `trivec encode s3://... --out s3://...`, against moto's server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from encoding_runs import encode, write_corpus
from pyarrow.fs import FileSystem

OPTIONS = ("-m", "nano", "--shard-rows", "100", "--threads", "1")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What follows a place in its URI, of a server that runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    ) as server:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=10).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
        options = f"?scheme=http&endpoint_override=127.0.0.1%3A{port}&region=us-east-1"
        filesystem, _ = FileSystem.from_uri(f"s3://bucket{options}&allow_bucket_creation=true")
        filesystem.create_dir("bucket")
        yield options
        server.kill()


def test_from_and_to_an_object_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "c.jsonl", 250)
    filesystem, _ = FileSystem.from_uri(f"s3://bucket{store}")
    for name in ("a.jsonl", "more/b.jsonl"):
        with filesystem.open_output_stream(f"bucket/in/{name}") as stream:
            stream.write((tmp_path / "c.jsonl").read_bytes())
    source, out = f"s3://bucket/in{store}", f"s3://bucket/out{store}"
    assert encode(source, "--out", out, *OPTIONS, "--shard", "1/2").startswith("250 documents encoded into 3 shards")
    assert encode(source, "--out", out, *OPTIONS).startswith("250 documents encoded into 3 shards")
    assert "complete and undamaged" in encode("--check", out)
    table = pq.read_table("bucket/out", filesystem=filesystem)
    assert table["id"].to_pylist() == [f"d{i}" for i in range(250)] * 2
    paths = "".join(table["metadata"].to_pylist())
    assert '"s3://bucket/in/more/b.jsonl"' in paths
    encode("c.jsonl", "--out", "here/", *OPTIONS)
    there = table.slice(250).select(["id", "text", "dense", "sparse"])
    assert there.combine_chunks().equals(pq.read_table("here").select(there.column_names).combine_chunks())
    filesystem.delete_file("bucket/out/shard-000001.parquet")
    assert encode(source, "--out", out, *OPTIONS).startswith("100 documents encoded into 1 shard")
