"""One server for all tests that do it no harm, and how they ask it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import Served, serving

Asked = tuple[int, Any, dict[str, str]]


def ask(url: str, body: Any = None, *, method: str | None = None, key: str | None = None) -> Asked:
    """Return status, JSON and headers of an answer; bodies that are bytes are sent as they are."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    if key is not None:
        request.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, content, headers = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, content, headers = error.code, error.read(), error.headers
    lower = {name.lower(): value for name, value in headers.items()}
    is_json = lower.get("content-type") == "application/json"
    return status, json.loads(content) if is_json and content else content.decode(), lower


@pytest.fixture(scope="session")
def server(tiny_checkpoint: Path) -> Iterator[Served]:
    with serving(tiny_checkpoint, "--precision", "fp32", "--max-texts", "100", "--max-body", "1") as served:
        yield served


@pytest.fixture
def post(server: Served) -> Callable[..., Any]:
    """Post to a path of the shared server: the JSON of an answer that is 200."""

    def call(path: str, **body: Any) -> Any:
        status, found, _ = ask(server.url + path, body)
        assert status == 200, found
        return found

    return call
