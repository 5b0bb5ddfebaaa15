"""Every optional package is asked for through one gate, which names an extra that brings it."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import trivec
from trivec.errors import MissingExtraError
from trivec.support.extras import extras_with, require

SOURCE = Path(trivec.__file__).parent


def calls_of_require() -> list[list[str]]:
    """The arguments of every call in trivec, where they are written out."""
    calls = [
        node
        for file in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require"
    ]
    arguments = [[each.value for each in call.args if isinstance(each, ast.Constant)] for call in calls]
    return [each for each in arguments if each]


def test_the_extra_named_brings_the_package() -> None:
    calls = calls_of_require()
    assert ["torch", "cuda"] in calls
    assert ["pyarrow"] in calls
    for module, *extra in calls:
        there = extras_with(module.partition(".")[0].replace("_", "-"))
        assert (extra[0] in there) if extra else (len(there) == 1), module


def test_extras_are_read_from_the_package() -> None:
    assert extras_with("pymilvus") == extras_with("milvus-lite") == ["milvus"]
    assert set(extras_with("torch")) == {"cuda", "train"}
    assert extras_with("numpy") == []
    names = [re.split(r"[^\w.-]", line)[0] for line in requires("trivec") or [] if "extra ==" in line]
    assert all(extras_with(name) for name in names if not re.search(r"pandas|pytest|ruff|mypy|pyright", name))


@pytest.mark.parametrize(
    ("module", "extra", "message"),
    [
        ("pyarrow.parquet", None, 'pyarrow is not installed: run `pip install "trivec[parquet]"`'),
        ("ir_measures", None, 'ir-measures is not installed: run `pip install "trivec[eval]"`'),
        ("matplotlib.figure", "train", 'matplotlib is not installed: run `pip install "trivec[train]"`'),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    module: str, extra: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (module.partition(".")[0], module):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        require(module, extra)
    assert str(caught.value) == message


def test_what_no_extra_brings_is_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught:
        require("no_such_module")
    assert not isinstance(caught.value, MissingExtraError)
