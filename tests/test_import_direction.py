"""Imports only go down: the layers drawn in ARCHITECTURE.md are held against what every module imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "trivec"
CHAPTERS = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
CHAPTERS -= {"__init__", "__main__"}


def layers() -> dict[str, int]:
    """Each chapter's layer, 0 at the bottom, as ARCHITECTURE.md draws them."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawing = re.search(r"(?<=```layers\n).*?(?=```)", text, re.DOTALL)
    assert drawing
    rows = [line.split() for line in reversed(drawing[0].splitlines())]
    return {name: level for level, names in enumerate(rows) for name in names}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and chapter of everything of trivec that a module imports when it runs, also within functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    left_out = {id(node) for block in for_types for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for parts in (name.split(".") for name in names):
            if parts[0] == "trivec" and parts[1:2] and parts[1] in CHAPTERS:
                yield node.lineno, parts[1]


def test_every_chapter_is_drawn() -> None:
    assert set(layers()) == CHAPTERS


@pytest.mark.parametrize("chapter", sorted(CHAPTERS))
def test_imports_go_down(chapter: str) -> None:
    level = layers()
    folder = SOURCE / chapter
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports trivec.{imported}"
        for path in (folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")])
        for line, imported in imports(path)
        if imported != chapter and level[imported] >= level[chapter]
    ]
    assert wrong == []


@pytest.mark.parametrize("engine", ["native", "openvino", "pytorch"])
def test_engines_do_not_know_each_other(engine: str) -> None:
    others = {"native", "openvino", "pytorch"} - {engine}
    for path in (SOURCE / "engines" / engine).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(rf"trivec\.engines\.(?:{'|'.join(others)})\b", text), path
