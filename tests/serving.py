"""The real server, in a process of its own, for as long as a test uses it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_LIMIT_S = 60
TRIVEC = (sys.executable, "-m", "trivec")


@dataclass
class Served:
    """A running server: where it listens, its process, and what it has written to stderr so far."""

    url: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)


@contextmanager
def listening(model: str | Path, *options: str) -> Iterator[Served]:
    """Start it and wait only until it listens, which is before the model is loaded; end it at once."""
    command = [*TRIVEC, "serve", str(model), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _listening(process)
        finally:
            process.kill()


@contextmanager
def serving(model: str | Path, *options: str, trivec: Sequence[str | Path] = TRIVEC) -> Iterator[Served]:
    """Start `trivec serve MODEL --port 0 OPTIONS`, wait until it is warm, end it by SIGTERM: it exits with 0."""
    command = [*trivec, "serve", str(model), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _warm(process)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


def _listening(process: subprocess.Popen[str]) -> Served:
    assert process.stderr
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if "listening on " in line:
            break
    else:
        raise AssertionError(f"the server ended with {process.wait()}: {''.join(said)}")
    threading.Thread(target=said.extend, args=(process.stderr,), daemon=True).start()
    return Served(line.rpartition("listening on ")[2].strip(), process, said)


def _warm(process: subprocess.Popen[str]) -> Served:
    served = _listening(process)
    url, said = served.url, served.said
    end = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return served
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        except TimeoutError:  # on a machine with much else to do it loads for longer than that
            pass
        assert process.poll() is None, "".join(said)
        assert time.monotonic() < end, f"not warm after {START_LIMIT_S} s: {''.join(said)}"
        time.sleep(0.05)
