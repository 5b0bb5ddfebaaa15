"""Checkpoints and models that many tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from random_checkpoint import write_random_checkpoint
from trivec import M3Model, M3Reranker

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What would be kept in the user's cache folder is kept in one of the test session, also by subprocesses."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trivec-cache")
        patch.setenv("TRIVEC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of BGE-M3's layout: 2 layers of 32, its own small tokenizer, 1024 tokens."""
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> Iterator[M3Model]:
    with M3Model.load(tiny_checkpoint, precision="fp32") as model:
        yield model


@pytest.fixture(scope="session")
def tiny_reranker_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of BGE-Reranker-v2-M3's layout, as small as `tiny_checkpoint`."""
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-reranker", seed=2, classifier=1)


@pytest.fixture(scope="session")
def tiny_reranker(tiny_reranker_checkpoint: Path) -> Iterator[M3Reranker]:
    with M3Reranker.load(tiny_reranker_checkpoint, precision="fp32") as reranker:
        yield reranker


@pytest.fixture(scope="session")
def xlmr_tokenizer() -> Path:
    """Folder of the real 250,002-piece tokenizer, which the project does not ship."""
    folder = SHARED / "xlmr-tokenizer"
    if not folder.is_dir():
        pytest.skip("needs the real XLM-R tokenizer in ../shared/xlmr-tokenizer, which is not on this machine")
    return folder


@pytest.fixture(scope="session")
def published() -> dict[str, Any]:
    """Figures that others published from the real BGE-M3."""
    return json.loads(files("trivec").joinpath("data/published.json").read_text(encoding="utf-8"))
