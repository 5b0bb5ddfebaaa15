"""Clients that are broken, slow, gone or hostile: each gets one clear answer, and the others notice nothing.

Beside each of them two ordinary clients keep asking, and every answer of theirs must be right.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.conftest import ask
from serving import Served, serving
from trivec import M3Model

ROOT = Path(__file__).parents[2]
POST_ROUTES = {
    "/encode": "inputs",
    "/score": "pairs",
    "/token_weights": "inputs",
    "/": "inputs",
    "/embed": "inputs",
    "/embed_sparse": "inputs",
    "/embed_all": "inputs",
    "/similarity": "inputs",
    "/tokenize": "inputs",
    "/decode": "ids",
    "/rerank": "texts",
    "/v1/rerank": "documents",
    "/v2/rerank": "documents",
    "/v1/embeddings": "input",
    "/embeddings": "input",
}
BODIES = {
    "nothing": b"",
    "no JSON": b"inputs=a",
    "half of it": b'{"%s": "a',
    "deep lists": b'{"%s": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"%s": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "NaN": b'{"%s": [NaN]}',
    "infinity": b'{"%s": [Infinity, -Infinity]}',
    "a number too large": b'{"%s": [1e999]}',
    "a lone surrogate": b'{"%s": "a \\udc00 b"}',
    "half a pair of surrogates": b'{"%s": "\\ud83d"}',
    "broken UTF-8": b'{"%s": "\xf0\x28\x8c\x28"}',
    "UTF-16": '{"%s": "a"}'.encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "a list": b'["a"]',
    "an endless number": b'{"%s": ' + b"9" * 100_000 + b"}",
}


def until(condition: Callable[[], bool], within: float = 60) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"it did not come to that within {within} s"
        time.sleep(0.02)


def metric(url: str, name: str) -> float:
    """A figure of /metrics; 0 if nothing of that kind was counted yet."""
    lines = [line for line in ask(f"{url}/metrics")[1].splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[-1]) if lines else 0.0


def resident_mb(served: Served) -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmRSS"))


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(path: str, length: int, content_type: str = "application/json") -> bytes:
    lines = f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}", f"Content-Length: {length}"
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer_on(connection: socket.socket) -> tuple[int, Any]:
    """The status and JSON that come on a connection."""
    with connection.makefile("rb") as received:
        status = int(received.readline().split()[1])
        headers = {}
        while (line := received.readline().strip()) and b":" in line:
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        assert headers["content-type"] == "application/json"
        return status, json.loads(received.read(int(headers["content-length"])))


@contextmanager
def others_unharmed(url: str, model: M3Model) -> Iterator[None]:
    """Two clients that ask as long as this lasts; each answer must be 200 and right, and there must be some."""
    texts = ["When was the bridge built?", "The bridge over the river was built in 1723, of stone."]
    expected = model.encode(texts, show_progress=False).dense
    ended = threading.Event()

    def asking() -> int:
        count = 0
        while not ended.is_set() or count < 3:
            status, found, _ = ask(f"{url}/encode", {"inputs": texts})
            assert status == 200, found
            np.testing.assert_allclose(found["dense"], expected, atol=1e-5)
            count += 1
        return count

    with ThreadPoolExecutor(2) as threads:
        others = [threads.submit(asking) for _ in range(2)]
        try:
            yield
        finally:
            ended.set()
        assert all(other.result(60) >= 3 for other in others)


def told_once(answer: tuple[int, Any], path: str) -> None:
    """It is an error of the client's, in the form of the path, with a message."""
    status, found = answer
    assert 400 <= status < 424, found
    error = found["error"]
    message = error["message"] if isinstance(error, dict) else error
    assert isinstance(error, dict) == (path.startswith(("/v1", "/v2")) or path == "/embeddings")
    assert isinstance(message, str)
    assert 0 < len(message) < 500


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_request_gets_one_error_on_every_route(
    server: Served, tiny_model: M3Model, name: str
) -> None:
    with others_unharmed(server.url, tiny_model):
        for path, field in POST_ROUTES.items():
            body = BODIES[name].replace(b"%s", field.encode())
            with closing(connect(server.url)) as connection:
                for _ in range(2):  # the connection is as good as new after an error
                    connection.sendall(head(path, len(body)) + body)
                    told_once(answer_on(connection), path)
    assert ask(f"{server.url}/health")[0] == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_json_is_read_whatever_it_is_called(server: Served, content_type: str) -> None:
    body = b'{"inputs": "a bridge"}'
    with closing(connect(server.url)) as connection:
        connection.sendall(head("/encode", len(body), content_type) + body)
        status, found = answer_on(connection)
    assert (status, len(found["dense"])) == (200, 1)


def test_a_text_of_a_megabyte_is_cut_like_any_other(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    text = "The bridge over the river was built in 1723. " * 23_000
    assert len(text) > 1_000_000
    with serving(tiny_checkpoint, "--precision", "fp32") as served, others_unharmed(served.url, tiny_model):
        status, found, _ = ask(f"{served.url}/encode", {"inputs": text, "return": ["dense", "colbert"]})
        assert status == 200
        assert found["usage"] == {"tokens": 1024, "truncated": 1, "cut": [0]}
        unbroken = {"inputs": "a" * 1_000_000}
        assert ask(f"{served.url}/encode", unbroken)[0] == 200
        assert ask(f"{served.url}/embed", unbroken | {"truncate": False})[0] == 422


def test_of_a_body_that_is_too_large_nothing_is_kept(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    size, piece = 100_000_000, b"a" * 1_000_000
    with serving(tiny_checkpoint, "--precision", "fp32") as served, others_unharmed(served.url, tiny_model):
        before = resident_mb(served)
        for _ in range(3):
            with closing(connect(served.url)) as connection:
                connection.sendall(head("/encode", size))
                try:
                    for _ in range(size // len(piece)):
                        connection.sendall(piece)
                except (BrokenPipeError, ConnectionResetError):
                    pytest.fail("the connection was closed before the answer could be read")
                status, found = answer_on(connection)
            assert (status, found["error_type"]) == (413, "TooLarge")
            assert "64,000,000 bytes" in found["error"]
        assert resident_mb(served) - before < 60


def test_who_asks_first_is_told_before_sending_too_much(server: Served) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(head("/encode", 100_000_000).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        status, found = answer_on(connection)
    assert (status, found["error_type"]) == (413, "TooLarge")


def test_clients_that_vanish_amid_their_bodies_leave_nothing_behind(server: Served, tiny_model: M3Model) -> None:
    gone = metric(server.url, 'te_request_failure{err="Gone"}')
    with others_unharmed(server.url, tiny_model):
        for i in range(50):
            with closing(connect(server.url)) as connection:
                connection.sendall(head("/encode", 500_000) + b'{"inputs": "' + b"a" * (i * 5_000))
        until(lambda: metric(server.url, 'te_request_failure{err="Gone"}') == gone + 50)
    until(lambda: metric(server.url, "trivec_queue_tokens") == 0)
    assert metric(server.url, 'te_request_failure{err="Gone"}') == gone + 50


def test_clients_that_vanish_before_their_answers_leave_nothing_behind(
    tiny_checkpoint: Path, tiny_model: M3Model
) -> None:
    body = json.dumps({"inputs": [f"{i} " + "word " * 250 for i in range(100)]}).encode()
    with serving(tiny_checkpoint, "--precision", "fp32") as served, others_unharmed(served.url, tiny_model):
        with ExitStack() as all_of_them:
            for _ in range(20):
                connection = all_of_them.enter_context(closing(connect(served.url)))
                connection.sendall(head("/embed", len(body)) + body)
            until(lambda: metric(served.url, 'te_request_count{method="/embed"}') == 20)
        # One or two may have been computed before they were gone.
        until(lambda: metric(served.url, 'te_request_failure{err="Gone"}') >= 15)
        until(lambda: metric(served.url, "trivec_queue_tokens") < 10_000)
        assert ask(f"{served.url}/health")[0] == 200


@pytest.mark.slow  # the server waits 20 seconds
def test_bodies_that_trickle_are_given_up(server: Served, tiny_model: M3Model) -> None:
    with others_unharmed(server.url, tiny_model), ExitStack() as all_of_them:
        trickling = [all_of_them.enter_context(closing(connect(server.url))) for _ in range(100)]
        for connection in trickling:
            connection.sendall(head("/encode", 10_000) + b'{"inputs": "')
        end = time.monotonic() + 60
        waiting = list(trickling)
        while waiting:
            assert time.monotonic() < end, f"{len(waiting)} of them are still waited for after a minute"
            for connection in list(waiting):
                connection.setblocking(False)
                try:
                    connection.sendall(b"a")
                    connection.recv(1, socket.MSG_PEEK)
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    pytest.fail("the connection was closed without an answer")
                waiting.remove(connection)
            time.sleep(0.5)
        for connection in trickling:
            connection.settimeout(60)
            status, found = answer_on(connection)
            assert (status, found["error_type"]) == (408, "Timeout")
            assert "came too slowly" in found["error"]


@pytest.mark.slow  # the server waits 20 seconds
def test_headers_that_trickle_are_given_up(server: Served, tiny_model: M3Model) -> None:
    with others_unharmed(server.url, tiny_model), closing(connect(server.url)) as connection:
        connection.sendall(b"POST /encode HTTP/1.1\r\nx-slow: ")
        connection.settimeout(60)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_sigterm_answers_all_that_were_admitted(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    texts = [f"{i} " + "word " * 200 for i in range(8)]
    expected = tiny_model.encode(texts, show_progress=False).dense
    options = ["--precision", "fp32", "--grace", "50"]  # more than a busy machine needs
    with serving(tiny_checkpoint, *options) as served, ThreadPoolExecutor(30) as threads:
        asked = [threads.submit(ask, f"{served.url}/embed", {"inputs": texts}) for _ in range(30)]
        until(lambda: metric(served.url, 'te_request_count{method="/embed"}') == 30)
        served.process.terminate()
        for one in asked:
            status, found, _ = one.result(60)
            # Those whose bodies were read before the signal are answered; for the rest it is too late.
            assert status in {200, 503}, found
            if status == 200:
                np.testing.assert_allclose(found, expected, atol=1e-5)
        assert any(one.result()[0] == 200 for one in asked)
        assert served.process.wait(60) == 0


def run_benchmark(*options: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "server.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_under_32_clients_every_answer_is_the_librarys() -> None:
    found = run_benchmark("--check", "500")
    assert (found["requests"], found["wrong"], found["exit_status"]) == (500, 0, 0)
    assert found["worst_deviation"] < 1e-5


def test_ten_times_too_much_is_refused_and_forgotten() -> None:
    found = run_benchmark("--overload", "8")
    assert set(found["statuses"]) == {"200", "429"}
    assert found["429_without_retry_after"] == found["lost"] == found["unasked_bytes"] == found["wrong"] == 0
    assert found["compared"] > 0
    assert found["single_query_after"] == {"200": 50}
