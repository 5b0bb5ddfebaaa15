"""Models from the hub: a small server on this machine speaks the hub's protocol, the real client talks to it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from random_checkpoint import write_random_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys
from trivec import M3Model
from trivec.errors import CheckpointError
try:
    model = M3Model.load(sys.argv[1], precision="fp32", local_files_only="local" in sys.argv)
    print("loaded", model.encode(["a boat"]).dense.shape)
except CheckpointError as error:
    print("refused", error)
"""


class Hub:
    """Serves one repository, `demo/model`, and remembers which files were fetched."""

    def __init__(self, folder: Path) -> None:  # noqa: C901 -- a server in a few lines
        self.folder = folder
        self.fetched: list[str] = []
        self.broken: set[str] = set()
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                parts = self.path.split("?")[0].strip("/").split("/")
                if parts[:2] != ["demo", "model"]:
                    return self.refuse("RepoNotFound")
                if parts[3] not in ("main", COMMIT):
                    return self.refuse("RevisionNotFound")
                file = hub.folder / parts[-1]
                hub.asked.append(file.name)
                if file.name in hub.broken:
                    self.send_error(500)
                    return None
                if not file.is_file():
                    return self.refuse("EntryNotFound")
                data = file.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    hub.fetched.append(file.name)
                    self.wfile.write(data)
                return None

            def refuse(self, code: str) -> None:
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Hub]:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "served"))
    (folder / "tf_model.h5").write_text("not needed")
    hub = Hub(folder)
    yield hub
    hub.close()


def load(endpoint: str, cache: Path, *arguments: str, **environment: str) -> str:
    """Load in a process of its own: the hub library reads HF_ENDPOINT once, at import."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", LOAD, *arguments]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr  # trivec decides how often the hub is asked
    return done.stdout


def test_downloads_what_is_needed_once(hub: Hub, tmp_path: Path) -> None:
    assert load(hub.endpoint, tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"
    needed = ["config.json", "tokenizer.json", "sparse_linear.pt", "colbert_linear.pt", "model.safetensors"]
    assert sorted(hub.fetched) == sorted(needed)
    assert load(hub.endpoint, tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"
    assert len(hub.fetched) == len(needed)
    assert load(hub.endpoint, tmp_path / "cache", "demo/model", "local") == "loaded (1, 32)\n"
    hub.close()
    # Nobody listens there: everything comes from the cache, also the knowledge of which files do not exist.
    assert load("http://127.0.0.1:9", tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"
    assert load("http://127.0.0.1:9", tmp_path / "cache", "demo/model", HF_HUB_OFFLINE="1") == "loaded (1, 32)\n"


def test_pickled_weights_load_without_a_network(hub: Hub, tmp_path: Path) -> None:
    write_random_checkpoint(hub.folder, weights="pytorch_model.bin")
    (hub.folder / "model.safetensors").unlink()
    assert load(hub.endpoint, tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"
    hub.close()
    assert load("http://127.0.0.1:9", tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"


def test_a_head_is_not_taken_for_absent_when_its_request_fails(hub: Hub, tmp_path: Path) -> None:
    hub.broken.add("sparse_linear.pt")
    refused = load(hub.endpoint, tmp_path / "cache", "demo/model")
    assert refused.startswith("refused demo/model: no local folder of that name, the hub is out of reach")
    assert hub.asked.count("sparse_linear.pt") == 2
    hub.broken.clear()
    assert load(hub.endpoint, tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"


def test_shards_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").rename(hub.folder / "shard-1.safetensors")
    header = (hub.folder / "shard-1.safetensors").read_bytes()
    names = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    index = {"weight_map": dict.fromkeys(names, "shard-1.safetensors")}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load(hub.endpoint, tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"
    assert "shard-1.safetensors" in hub.fetched


def test_errors_say_what_to_do(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert "no such model on the hub" in load(hub.endpoint, cache, "demo/other")
    assert "cache lacks the model: give the path of a local copy" in load(hub.endpoint, cache, "demo/model", "local")
    offline = load(hub.endpoint, cache, "demo/model", HF_HUB_OFFLINE="1")
    assert offline.startswith("refused demo/model: no local folder of that name, the hub is not asked (offline)")
    (hub.folder / "model.safetensors").unlink()
    assert "expected one of model.safetensors" in load(hub.endpoint, cache, "demo/model")


def test_a_hub_that_fails_is_asked_twice(hub: Hub, tmp_path: Path) -> None:
    """Its own library tries six times, for each file."""
    hub.broken.update(file.name for file in hub.folder.iterdir())
    refused = load(hub.endpoint, tmp_path / "cache", "demo/model")
    assert "the hub is out of reach and the cache lacks the model" in refused
    assert hub.asked == ["config.json"] * 2
    hub.broken.clear()
    load(hub.endpoint, tmp_path / "cache", "demo/model")
    hub.broken.update(file.name for file in hub.folder.iterdir())
    hub.asked.clear()
    assert load(hub.endpoint, tmp_path / "cache", "demo/model") == "loaded (1, 32)\n"
    assert hub.asked == ["config.json"] * 2


def test_a_hub_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    """Connections are taken by the system and never answered; a test without an end would show that they were."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "the hub is out of reach" in load(endpoint, tmp_path / "cache", "demo/model")


def trivec(endpoint: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", "COLUMNS": "500"}
    command = [sys.executable, "-m", "trivec", *arguments]
    return subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False, cwd=cache.parent
    )


def test_download_fetches_what_is_needed_and_says_where(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = trivec(hub.endpoint, cache, "download", "demo/model")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    needed = {"config.json", "tokenizer.json", "sparse_linear.pt", "colbert_linear.pt", "model.safetensors"}
    assert {file.name for file in folder.iterdir()} == needed == set(hub.fetched)
    size = sum((hub.folder / name).stat().st_size for name in needed)
    assert f"{size / 1e6:,.1f} MB  in 5 files, ready to use as demo/model" in done.stderr
    # By its commit as well, and without a network.
    hub.close()
    for options in ([], ["--offline"], ["--revision", COMMIT], ["--revision", COMMIT, "--offline"]):
        again = trivec("http://127.0.0.1:9", cache, "download", "demo/model", *options)
        assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr


def test_download_of_damage_fails(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").write_bytes(b"x" * 99)
    done = trivec(hub.endpoint, tmp_path / "cache", "download", "demo/model")
    assert (done.returncode, done.stdout) == (1, "")
    assert "model.safetensors is no complete safetensors file" in done.stderr
    assert trivec(hub.endpoint, tmp_path / "cache", "download", "demo/model", "--revision", "v9").returncode == 1


def test_a_name_spelt_almost_right_is_recognised(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "my-fine-tune").mkdir()
    (tmp_path / "my-fine-tune" / "config.json").touch()
    (tmp_path / "no-model").mkdir()
    for wrong, right in {
        "nanoo": "nano",
        "Nano": "nano",
        "baai/bge-m3": "BAAI/bge-m3",
        "BAAI/bge-m": "BAAI/bge-m3",
        "./my-fine-tun": "my-fine-tune",
        str(tmp_path / "my_fine_tune"): str(tmp_path / "my-fine-tune"),
    }.items():
        done = trivec("http://127.0.0.1:9", cache, "info", wrong)
        assert done.returncode == 1
        assert f"error: {wrong}: did you mean {right}? " in done.stderr
        assert done.stderr.count("\n") == 1
    assert "did you mean" not in trivec(hub.endpoint, cache, "info", "demo/other").stderr
    assert "did you mean" not in trivec(hub.endpoint, cache, "info", "no-modell").stderr


def test_the_shell_hears_of_options_not_of_arguments(tmp_path: Path) -> None:
    done = trivec("http://127.0.0.1:9", tmp_path / "cache", "encode", "x.txt", "--out", "x.npz", "--device", "gpu")
    assert done.returncode != 0
    assert "=" not in done.stderr
    done = trivec("http://127.0.0.1:9", tmp_path / "cache", "info", "demo/model", "--offline")
    assert "local_files_only" not in done.stderr
    assert "Traceback" not in done.stderr
