"""What docs/ says to write in each client: its blocks run as they stand, but for the server's address and the size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from answers import assert_best_first, assert_same
from trivec import M3Model

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("server*.md"))
BLOCK = re.compile(r"^<!-- run by make integration -->\n```python\n((?:.*\n)*?)```$", re.MULTILINE)
BLOCKS = [code for page in PAGES for code in BLOCK.findall(page.read_text(encoding="utf-8"))]
TEXTS = ["A boat on the lake.", "The old bridge."]


def name(code: str) -> str:
    return code.splitlines()[0].rpartition(" import ")[2]


def test_there_are_blocks():
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize("code", BLOCKS, ids=name)
def test_the_block_does_what_is_said(
    code: str, url: str, model: M3Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    code = code.replace("http://127.0.0.1:8080", url).replace("DIM = 1024", f"DIM = {model.dim['dense']}")
    made: dict = {}
    exec(compile(code, name(code), "exec"), made)
    scores = np.array(model.compute_score([("Who rowed?", text) for text in TEXTS])["colbert"])
    if "vectors" in made:
        assert_same(made["vectors"], model.encode(TEXTS).dense)
    elif "results" in made:
        assert_best_first([(TEXTS.index(result.text), result.score) for result in made["results"]], scores)
    else:
        assert_best_first([(TEXTS.index(hit["text"]), hit["distance"]) for hit in made["hits"]], scores)
        made["milvus"].close()
