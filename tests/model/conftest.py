"""A server, and models that have it compute."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import Served, serving
from trivec import M3Model


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 60 s"
        time.sleep(0.01)


def metric(server: Served, name: str) -> float:
    """A number out of a server's /metrics."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.fixture(autouse=True)
def no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIVEC_API_KEY", raising=False)


@pytest.fixture(scope="session")
def model_server(tiny_checkpoint: Path) -> Iterator[Served]:
    """A server for whole models, without a key; a request holds few texts, so that some texts are several."""
    with serving(tiny_checkpoint, "--precision", "fp32", "--max-texts", "32") as served:
        yield served


@pytest.fixture(scope="session")
def remote(model_server: Served) -> Iterator[M3Model]:
    with M3Model.load(model_server.url) as model:
        yield model
