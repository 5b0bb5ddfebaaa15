"""Clients from other packages, unchanged, against the running server. Run by `make integration`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from answers import KEY
from sample_texts import SENTENCES
from serving import serving
from trivec import M3Model

pytest.importorskip("openai", reason="needs the clients' packages: run `make integration`")


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
