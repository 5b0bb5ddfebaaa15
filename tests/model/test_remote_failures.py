"""A server that is loading, busy, gone or not what was thought: what is tried again, for how long, and what is told."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from model.conftest import metric, until
from serving import Served, listening, serving
from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.checkpoint import open_checkpoint
from trivec.encoding import TruncationWarning
from trivec.errors import CheckpointError, ServerError
from trivec.model import http_connection

TEXTS = [f"{i} boats cross the lake" for i in range(100)]
KEY = "k3y-that-nobody-may-see"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def guarded(tiny_checkpoint: Path) -> Iterator[Served]:
    """A server with a key, little room in its queue and small bodies."""
    options = ("--api-key", KEY, "--max-queue-tokens", "600", "--max-body", "1", "--max-length", "64")
    with serving(tiny_checkpoint, "--precision", "fp32", *options) as served:
        yield served


def test_a_server_that_is_loading_is_waited_for(tiny_checkpoint: Path) -> None:
    with listening(tiny_checkpoint, "--precision", "fp32") as served, M3Model.load(served.url) as model:
        assert len(model.encode(["a"])) == 1


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_key(how: str, guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("TRIVEC_API_KEY", f"{KEY}\n")
    with M3Model.load(guarded.url, api_key=KEY if how == "argument" else None) as model:
        assert len(model.encode(["a"])) == 1
        assert model.max_length == 64
        function = BGEM3EmbeddingFunction(guarded.url, **({"api_key": KEY} if how == "argument" else {}))
        assert len(function.encode_documents(["a"])["dense"]) == 1


@pytest.mark.parametrize("key", [None, "wrong-key", "ключ", "two\nlines", 7])
def test_a_key_that_is_refused_is_not_told(key: object, guarded: Served) -> None:
    with pytest.raises((ServerError, ValueError, TypeError), match="api_key") as told:
        M3Model.load(guarded.url, api_key=key)
    assert "\n" not in str(told.value)
    assert str(key) not in str(told.value)


def test_a_key_is_seen_nowhere(guarded: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model = M3Model.load(guarded.url, api_key=KEY)
    model.encode(TEXTS)
    for thing in (model, model.endpoint, model._arguments, model._connection, model.tokenizer, vars(model)):
        assert KEY not in repr(thing)
    with pytest.raises(ValueError, match="the server decides") as told:
        M3Model.load(guarded.url, api_key=KEY, engine="torch")
    assert KEY not in repr(told.value)
    assert guarded.process.poll() is None
    assert KEY not in caplog.text
    assert KEY not in "".join(guarded.said)
    received = pickle.loads(pickle.dumps(model))  # which needs it where it is going
    assert len(received.encode(["a"])) == 1


def test_a_key_of_the_environment_does_not_travel(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVEC_API_KEY", KEY)
    assert KEY.encode() not in pickle.dumps(M3Model.load(guarded.url))


def test_a_full_queue_is_asked_again(guarded: Served) -> None:
    """Ten callers, each with more at once than the queue holds beside another's."""
    with M3Model.load(guarded.url, api_key=KEY) as model, ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda _: model.encode(TEXTS).dense, range(10)))
    assert max(float(np.abs(dense - found[0]).max()) for dense in found) <= 1e-5


def test_a_text_that_goes_into_no_request(guarded: Served) -> None:
    with M3Model.load(guarded.url, api_key=KEY) as model:
        stream = model.encode_stream([*TEXTS, "a" * 1_000_000])
        with pytest.raises(ValueError, match=r"texts\[100\] has 1,000,002 bytes .* --max-body"):
            assert len(list(stream)) == 100
        with pytest.warns(TruncationWarning, match="3 of 3"):  # each is a request of its own
            assert len(model.encode(["b " * 350_000] * 3).dense) == 3


def test_what_the_server_refuses_is_not_asked_again(guarded: Served) -> None:
    connection = http_connection.Connection(http_connection.Endpoint.of(guarded.url, KEY))
    for path, body, status, message in (
        ("/encode", b'{"inputs": 3}', 422, "inputs is 3"),
        ("/encode", b'{"inputs": [', 400, "the body is no JSON"),
        ("/encode", b'{"inputs": "%s"}' % (b"a" * 1_100_000), 413, "larger than 1,000,000 bytes"),
        ("/nothing", b"{}", 404, "is it a trivec serve"),
    ):
        with pytest.raises(ServerError, match=message) as told:
            connection.ask("POST", path, body)
        assert f"({status}" in str(told.value)
        assert len(str(told.value).splitlines()) == 1
    connection.close()


def test_a_server_that_comes_back_is_found_again(tiny_checkpoint: Path) -> None:
    port = str(free_port())
    with listening(tiny_checkpoint, "--port", port) as first, M3Model.load(first.url) as model:
        wanted = model.encode(TEXTS).dense
        begun = threading.Event()
        found = []

        def texts() -> Iterator[str]:
            for i, text in enumerate(TEXTS * 30):
                if i == 2000:
                    begun.set()
                yield text

        caller = threading.Thread(target=lambda: found.extend(model.encode_stream(texts())))
        caller.start()
        assert begun.wait(60)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        with listening(tiny_checkpoint, "--port", port):
            caller.join(120)
            assert len(found) == 3000
            assert np.abs(np.stack([one.dense for one in found]) - np.tile(wanted, (30, 1))).max() <= 1e-5


def test_a_server_that_stays_away_is_given_up(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "PATIENCE", 1.5)
    with listening(tiny_checkpoint) as served:
        model = M3Model.load(served.url)
    for call in (lambda: model.encode(["a"]), lambda: model.encode(TEXTS * 30), lambda: model.token_weights("a")):
        with pytest.raises(ServerError, match=r"cannot be reached .* asked \d times in \d s, within the 1.5 s") as told:
            call()
        assert served.url in str(told.value)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "PATIENCE_AT_FIRST", 0.5)
    monkeypatch.setattr("trivec.model.remote.PATIENCE_AT_FIRST", 0.5)
    with pytest.raises(ServerError, match=r"cannot be reached \(.*refused"):
        M3Model.load(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServerError, match="cannot be reached"):
        M3Model.load("http://nowhere.invalid")


def test_proxies_of_the_environment(model_server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivec.model.remote.PATIENCE_AT_FIRST", 0.3)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServerError, match="cannot be reached"):
        M3Model.load(model_server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    M3Model.load(model_server.url).close()


class _Elsewhere(BaseHTTPRequestHandler):
    """Another program, which answers whatever its path says."""

    def do_GET(self) -> None:
        status, body, headers = {
            "/html/info": (200, "<html>welcome</html>", {}),
            "/tei/info": (200, '{"model_id": "BAAI/bge-m3", "max_input_length": 8192}', {}),
            "/moved/info": (301, "", {"location": "https://elsewhere.example/info"}),
            "/broken/info": (500, "Traceback:\n  secret\n", {}),
            "/long/info": (503, '{"error": "maintenance"}', {"retry-after": "86400"}),
        }[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("html", "answers GET /info without JSON: is it a trivec serve"),
        ("tei", "is no trivec serve of this version"),
        ("moved", "refers to https://elsewhere.example/info: give that"),
        ("broken", r"refuses GET /info \(500\): Traceback: secret"),
        ("long", "is not ready .*maintenance.* it asks to wait 86400 s"),
    ],
)
def test_another_program(path: str, message: str, elsewhere: str) -> None:
    with pytest.raises(ServerError, match=message) as told:
        M3Model.load(f"{elsewhere}/{path}/")
    assert f"{elsewhere}/{path} " in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:secret@host:8080", "holds a user or password: give the key as api_key or TRIVEC_API_KEY"),
        ("http://:secret@host", "holds a user or password"),
        ("http://host:99999", "is no URL of a server"),
        ("http://", "write http://host:8080"),
        ("http://host?key=secret", "is no URL of a server"),
    ],
)
def test_what_is_no_url(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        M3Model.load(url)
    if "@" in url:
        with pytest.raises(ValueError, match=message) as told:
            M3Model.load(url)
        assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "cuda"),
        ("device", ["cuda:0", "cuda:1"]),
        ("engine", "torch"),
        ("precision", "int8"),
        ("cache_dir", "models"),
        ("revision", "main"),
        ("local_files_only", True),
        ("num_threads", 2),
        ("use_cache", False),
    ],
)
def test_what_the_server_decides_cannot_be_given(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}=.* cannot be given with a URL: the server decides"):
        M3Model.load("http://host:8080", **{name: value})


def test_a_key_without_a_server(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="api_key is for the URL of a server") as told:
        M3Model.load(tiny_checkpoint, api_key=KEY)
    assert KEY not in str(told.value)


def test_files_are_not_to_be_had_from_a_server() -> None:
    with pytest.raises(CheckpointError, match=r"is the address of a server, .* needs the model's files"):
        open_checkpoint("http://host:8080")


def test_ctrl_c_while_a_server_computes(model_server: Served) -> None:
    code = (
        "import sys; from trivec import M3Model\n"
        f"model = M3Model.load({model_server.url!r})\n"
        "print('begun', flush=True)\n"
        "model.encode(['boat ' * 900] * 2000, show_progress=False)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begun\n"
        until(lambda: metric(model_server, "trivec_queue_tokens") > 0)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert told.splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception ignored" not in told
    until(lambda: metric(model_server, "trivec_queue_tokens") == 0)
