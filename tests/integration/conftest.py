"""Clients from other packages, unchanged, against the running server, and trivec within frameworks.

Run by `make integration`, in an environment for each: a file whose packages are not there is not looked at.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from answers import KEY, Demo
from sample_texts import SENTENCES
from serving import serving
from trivec import M3Model

# What tells the environment that a file is for.
NEEDS = {
    "test_integrations_langchain.py": "langchain-milvus",
    "test_integrations_llama_index.py": "llama-index-vector-stores-milvus",
    "test_integrations_haystack.py": "milvus-haystack",
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if not collection_path.name.startswith("test_"):
        return None
    try:
        version(NEEDS.get(collection_path.name, "openai"))
    except PackageNotFoundError:
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def model() -> Iterator[M3Model]:
    """What the clients' answers are compared with."""
    with M3Model.load("nano", precision="fp32") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def url(cache_folder: Path) -> Iterator[str]:
    """A server that asks for no key."""
    with serving("nano", "--precision", "fp32") as server:
        yield server.url


@pytest.fixture(scope="session")
def guarded_url(cache_folder: Path) -> Iterator[str]:
    """A server that asks for `KEY`, and takes four texts a request at most."""
    with serving("nano", "--precision", "fp32", "--api-key", KEY, "--max-texts", "4") as server:
        yield server.url


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Twelve languages, long and short by turns, one text twice and one empty: an answer out of order is noticed."""
    plain = [text for sentences in SENTENCES.values() for text in sentences]
    return [text for pair in zip(plain, (f"{text} " * 8 for text in plain), strict=True) for text in pair] + [
        plain[0],
        "",
    ]


@pytest.fixture(scope="session")
def dense(model: M3Model, texts: list[str]) -> np.ndarray:
    """The dense vectors of `texts`."""
    return model.encode(texts, return_sparse=False).dense


@pytest.fixture(scope="session")
def documents() -> list[dict[str, Any]]:
    """The demo's forty, each with "id", "title", "language" and "text"."""
    lines = files("trivec").joinpath("data/demo/documents.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def demo(model: M3Model, documents: list[dict[str, Any]]) -> Demo:
    """How the demo's documents are found."""
    return Demo(documents, model, model.encode([document["text"] for document in documents]))


@pytest.fixture
def passes(model: M3Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each pass of `model`'s encoder had, since the list was last cleared."""
    counted: list[int] = []
    compute = model._engine.encode

    def counting(token_ids: list[np.ndarray], *arguments: Any) -> Any:
        counted.append(len(token_ids))
        return compute(token_ids, *arguments)

    monkeypatch.setattr(model._engine, "encode", counting)
    return counted


@pytest.fixture
def texts_computed(url: str) -> Callable[[], int]:
    """Tells how many texts the server has computed, ever."""

    def count() -> int:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            found = re.search(r"^trivec_texts_count ([\d.e+]+)$", answer.read().decode(), re.MULTILINE)
        assert found
        return int(float(found[1]))

    return count
