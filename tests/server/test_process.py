"""How the server starts and stops: at once, in good order, and with an error where nothing can be computed any more."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.conftest import ask
from serving import Served, serving


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 60 s"
        time.sleep(0.01)


def start(*options: str | Path) -> tuple[subprocess.Popen[str], str]:
    """Start a server and return once it listens, which is before the model is loaded."""
    command = [sys.executable, "-m", "trivec", "serve", *map(str, options), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    line = process.stderr.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line + process.stderr.read()
    return process, line.removeprefix("listening on ").strip()


def test_it_answers_while_the_model_loads(tiny_checkpoint: Path) -> None:
    process, url = start(tiny_checkpoint)
    try:
        assert ask(f"{url}/live")[:2] == (200, {"status": "live"})
        seen = set()

        def warm() -> bool:
            status, found, headers = ask(f"{url}/health")
            seen.add(status)
            if status == 503:
                assert found == {"error": "loading", "error_type": "Unhealthy"}
                assert headers["retry-after"] == "1"
                assert ask(f"{url}/encode", {"inputs": "a"})[0] in (503, 200)
            return bool(status == 200)

        until(warm)
        assert seen == {200, 503}
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_model_that_cannot_be_loaded_ends_it_with_one_line(tmp_path: Path) -> None:
    process, _ = start(tmp_path / "nothing-here")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nothing-here" in said
    assert "Traceback" not in said


def test_an_address_in_use_is_told(tiny_checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "trivec", "serve", str(tiny_checkpoint), "--port", str(port)]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr


def test_a_public_address_without_a_key_is_warned_of(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "trivec", "serve", str(tiny_checkpoint), "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "--host 0.0.0.0 without --api-key" in process.stderr.readline()
        process.terminate()


def test_the_key_guards_all_but_health_and_live(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVEC_API_KEY", "a secret")
    with serving(tiny_checkpoint) as served:
        for path in ("/encode", "/info", "/metrics", "/nowhere", "/v1/embeddings", "/openapi.json"):
            for key in (None, "a guess", "a secret "):
                status, found, headers = ask(served.url + path, key=key)
                assert status == 401, path
                assert headers["www-authenticate"] == "Bearer"
                message = found["error"]["message"] if path.startswith("/v1") else found["error"]
                assert "API key" in message
        assert ask(f"{served.url}/health")[0] == ask(f"{served.url}/live")[0] == 200
        status, found, _ = ask(f"{served.url}/encode", {"inputs": "a"}, key="a secret")
        assert (status, len(found["dense"])) == (200, 1)
        assert "a secret" not in "".join(served.said)


def test_sigterm_lets_what_was_admitted_finish_and_refuses_the_rest(tiny_checkpoint: Path) -> None:
    process, url = start(tiny_checkpoint, "--grace", "300")
    until(lambda: ask(f"{url}/health")[0] == 200)
    answers: list[Any] = []
    texts = [f"{i} " + "word " * 250 for i in range(600)]
    asking = threading.Thread(target=lambda: answers.append(ask(f"{url}/embed", {"inputs": texts})))
    asking.start()
    until(lambda: waiting_tokens(url) > 0)
    process.terminate()
    until(lambda: ask(f"{url}/health")[0] == 503)
    status, found, headers = ask(f"{url}/embed", {"inputs": "too late"})
    assert (status, found["error_type"], headers["retry-after"]) == (503, "Unhealthy", "1")
    asking.join(300)
    ((status, found, _),) = answers
    assert (status, len(found)) == (200, 600)
    assert process.wait(30) == 0


def test_after_the_grace_what_is_left_gets_an_error(tiny_checkpoint: Path) -> None:
    process, url = start(tiny_checkpoint, "--grace", "0")
    until(lambda: ask(f"{url}/health")[0] == 200)
    answers: list[Any] = []
    texts = [f"{i} " + "word " * 250 for i in range(2000)]
    asking = threading.Thread(target=lambda: answers.append(ask(f"{url}/embed", {"inputs": texts})))
    asking.start()
    until(lambda: waiting_tokens(url) > 0)
    process.terminate()
    asking.join(60)
    ((status, found, _),) = answers
    assert (status, found["error_type"]) == (503, "Unhealthy")
    assert process.wait(30) == 0


def test_ctrl_c_ends_it_like_any_command(tiny_checkpoint: Path) -> None:
    process, url = start(tiny_checkpoint)
    until(lambda: ask(f"{url}/health")[0] == 200)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_client_that_goes_away_takes_its_texts_with_it(tiny_checkpoint: Path) -> None:
    with serving(tiny_checkpoint) as served:
        host, port = served.url.removeprefix("http://").split(":")
        body = json.dumps({"inputs": [f"{i} " + "word " * 250 for i in range(2000)]}).encode()
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            until(lambda: waiting_tokens(served.url) > 100_000)
        until(lambda: waiting_tokens(served.url) == 0)
        computed = metric(served.url, "trivec_texts_count")
        assert computed < 2000
        assert metric(served.url, 'te_request_failure{err="Gone"}') == 1


def test_a_full_queue_answers_429_with_a_time_to_wait(tiny_checkpoint: Path) -> None:
    with serving(tiny_checkpoint, "--max-queue-tokens", "5000") as served:
        statuses: list[Any] = []
        texts = ["word " * 250] * 20

        def send() -> None:
            statuses.append(ask(f"{served.url}/embed", {"inputs": texts}))

        senders = [threading.Thread(target=send) for _ in range(30)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        assert len(statuses) == 30
        refused = [one for one in statuses if one[0] == 429]
        assert refused
        assert {one[0] for one in statuses} == {200, 429}
        for _, found, headers in refused:
            assert found["error_type"] == "Overloaded"
            assert 1 <= int(headers["retry-after"]) <= 120
        until(lambda: waiting_tokens(served.url) == 0)
        assert ask(f"{served.url}/embed", {"inputs": "room again"})[0] == 200


def test_when_computing_fails_everybody_is_told_and_the_process_ends(tiny_checkpoint: Path, tmp_path: Path) -> None:
    # The real process with an engine whose third batch fails, as one does that has no memory left.
    (tmp_path / "failing.py").write_text(
        "import sys\n"
        "from trivec.engines.openvino import engine\n"
        "from trivec.engines.native import engine as native\n"
        "from trivec.cli.app import run\n"
        "for kind in (engine.OpenVINOEngine, native.NativeEngine):\n"
        "    def encode(self, token_ids, heads, most, whole=kind.encode):\n"
        "        for number, batch in enumerate(whole(self, token_ids, heads, most)):\n"
        "            if number == 2:\n"
        "                raise RuntimeError('no memory left')\n"
        "            yield batch\n"
        "    kind.encode = encode\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    command = [sys.executable, str(tmp_path / "failing.py"), "serve", str(tiny_checkpoint), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr
        url = process.stderr.readline().removeprefix("listening on ").strip()
        until(lambda: ask(f"{url}/health")[0] == 200)
        answers: list[Any] = []
        texts = ["word " * 250] * 50
        askers = [
            threading.Thread(target=lambda: answers.append(ask(f"{url}/embed", {"inputs": texts}))) for _ in range(8)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(60)
        said = process.stderr.read()
        assert process.wait(30) == 1
    assert [status for status, _, _ in answers] == [503] * 8
    assert all("no memory left" in found["error"] or found["error"] == "failed" for _, found, _ in answers)
    assert "no memory left" in said
    assert "Traceback" not in said


def test_metrics_count(server: Served) -> None:
    before = metric(server.url, "trivec_texts_count"), metric(server.url, 'te_request_count{method="/embed"}')
    assert ask(f"{server.url}/embed", {"inputs": ["a", "b", "c"]})[0] == 200
    assert metric(server.url, "trivec_texts_count") == before[0] + 3
    assert metric(server.url, 'te_request_count{method="/embed"}') == before[1] + 1


def metric(url: str, name: str) -> float:
    _, text, _ = ask(f"{url}/metrics")
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def waiting_tokens(url: str) -> float:
    return metric(url, "trivec_queue_tokens")
