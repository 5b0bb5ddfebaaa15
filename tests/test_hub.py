"""Models from the hub: a small server on this machine speaks the hub's protocol, the real client talks to it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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


def load(endpoint: str, cache: Path, *arguments: str, quiet: bool = True, **environment: str) -> str:
    """Load in a process of its own: the hub library reads HF_ENDPOINT once, at import."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", LOAD, *arguments]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        not quiet or "Retrying" not in done.stderr
    )  # no file is asked for that is known to be missing, or cannot be had
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
    refused = load(hub.endpoint, tmp_path / "cache", "demo/model", quiet=False)
    assert refused.startswith("refused demo/model: no local folder of that name, the hub is out of reach")


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
    assert offline.startswith("refused demo/model: no local folder of that name, the hub is out of reach")
    (hub.folder / "model.safetensors").unlink()
    assert "expected one of model.safetensors" in load(hub.endpoint, cache, "demo/model")
