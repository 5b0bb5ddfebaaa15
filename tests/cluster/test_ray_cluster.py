"""A corpus encoded by a Ray cluster of two nodes, one of whose workers is killed, and then a node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data
from encoding_runs import encode, write_corpus
from ray.cluster_utils import Cluster

from trivec.shards import Encoder

DOCUMENTS, SHARD = 4000, 100
OPTIONS = ("-m", "nano", "--shard-rows", SHARD, "--threads", "1", "--token-vectors", "int8")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that does no work, and two nodes of a core each; a node that dies is missed within seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        for tries_left in (2, 1, 0):
            try:
                started = two_nodes()
                break
            except Exception:  # Ray's own: a node has 30 seconds to start, which a busy machine may take
                if not tries_left:
                    raise
        yield started
        ray.shutdown()
        started.shutdown()


def two_nodes() -> Cluster:
    noticed = {"health_check_period_ms": 500, "health_check_failure_threshold": 10}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": noticed}
    started = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(num_cpus=1, include_dashboard=False)
    return started


def children(pid: int) -> dict[int, str]:
    """The process numbers and command lines of a process's children."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "status").read_text()
            if entry.name.isdigit() and f"\nPPid:\t{pid}\n" in status:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it is none, or has ended
            continue
    return found


def raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def wait_until(done: Any, running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 240
    while not done():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def test_killed_workers_and_nodes_lose_nothing_and_change_no_byte(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "c.jsonl", DOCUMENTS)
    encode("c.jsonl", "--out", "alone/", *OPTIONS)
    alone = sorted(Path("alone").glob("*.parquet"))
    assert len(alone) == DOCUMENTS // SHARD
    command = [sys.executable, "-m", "trivec", "encode", "c.jsonl", "--out", "together/", *map(str, OPTIONS)]
    command += ["--ray", cluster.address, "--workers", "2"]

    def there() -> list[Path]:
        return sorted(Path("together").glob("*.parquet"))

    first, second = cluster.worker_nodes
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: len(there()) >= 4, running)
        workers = {pid for node in (first, second) for pid, name in children(raylet(node)).items() if "Worker" in name}
        os.kill(max(workers), signal.SIGKILL)
        reached = len(there())
        wait_until(lambda: len(there()) >= reached + 4, running)
        died = raylet(first)
        processes = [died, *children(died)]
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        assert len(there()) < len(alone), "all was encoded before the node was killed"
        said = running.communicate(timeout=300)[1]
        assert running.returncode == 0, said
    assert [file.name for file in there()] == [file.name for file in alone]
    assert [file.read_bytes() for file in there()] == [file.read_bytes() for file in alone]
    assert "complete and undamaged" in encode("--check", "together")
    assert not list(Path("together").glob(".*.part"))


def test_what_is_wrong_on_a_worker_is_told(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "c.jsonl", 10)
    (tmp_path / "no-model").mkdir()
    command = [sys.executable, "-m", "trivec", "encode", "c.jsonl", "--out", "v/", "-m", "no-model"]
    done = subprocess.run(
        [*command, "--ray", cluster.address], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert "error: on the Ray cluster: " in done.stderr
    assert "no-model" in done.stderr


def test_the_encoder_as_a_class_for_map_batches(cluster: Cluster):
    """As docs/scale.md shows: Arrow types stay what they are, and are no tensors of Ray's."""
    ray.init(address=cluster.address, log_to_driver=False, ignore_reinit_error=True)
    table = pa.table({"id": ["a", "b", "c"], "text": ["a boat", "a bridge", "a lake"]})
    encoded = ray.data.from_arrow(table).map_batches(
        Encoder,
        fn_constructor_args=("nano",),
        fn_constructor_kwargs={"token_vectors": "fp16", "num_threads": 1},
        batch_format="pyarrow",
        batch_size=2,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
    )
    got = pa.concat_tables(ray.get(encoded.to_arrow_refs())).sort_by("id")
    expected = Encoder("nano", token_vectors="fp16", num_threads=1)(table)
    assert got.schema.equals(expected.schema)
    assert got["id"].to_pylist() == ["a", "b", "c"]
    np.testing.assert_allclose(np.array(got["dense"].to_pylist()), np.array(expected["dense"].to_pylist()), atol=1e-5)
