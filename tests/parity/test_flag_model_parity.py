"""trivec's `BGEM3FlagModel` beside FlagEmbedding's own: the same notebooks, the same numbers."""

from __future__ import annotations

import json
import numbers
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FlagEmbedding import BGEM3FlagModel as Reference

from flag_patterns import PATTERNS, Pattern
from random_checkpoint import write_random_checkpoint
from trivec import BGEM3FlagModel

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_random_checkpoint(tmp_path_factory.mktemp("flag") / "small", seed=11, weights="pytorch_model.bin")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["decoder"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))  # the real tokenizer decodes so
    return folder


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_notebooks_print_the_same(checkpoint: Path, pattern: Pattern) -> None:
    assert_same(pattern(BGEM3FlagModel, checkpoint), pattern(Reference, checkpoint))


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= TOLERANCE
    elif isinstance(theirs, numbers.Real) or hasattr(theirs, "item"):
        assert float(ours) == pytest.approx(float(theirs), abs=TOLERANCE)
    else:
        assert ours == theirs
