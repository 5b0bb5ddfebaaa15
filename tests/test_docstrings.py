"""What docstrings say is raised, warned of and returned: in sentences, and of classes that there are."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import trivec

TREES = {str(file): ast.parse(file.read_text(encoding="utf-8")) for file in Path(trivec.__file__).parent.rglob("*.py")}
CLASSES = {node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
SECTION = re.compile(r"^(?P<name>Raises|Warns|Returns|Yields):\n(?P<entries>(?:(?: .*)?\n)+)", re.MULTILINE)
NAMED = re.compile(r"(?P<names>[\w.]+(?:, [\w.]+)*): (?P<text>.+)", re.DOTALL)
# A capital, or what cannot have one: code, a quoted word, a shape, a number.
SENTENCE = re.compile(r'[A-Z`"(0-9].*[.)`\]]', re.DOTALL)


def entries() -> Iterator[tuple[str, str, str]]:
    """Where a section is, its name, and each of its entries; results have one, without a name."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for found in SECTION.finditer(f"{ast.get_docstring(node)}\n"):
                    of_result = found["name"] in ("Returns", "Yields")
                    parts = [found["entries"]] if of_result else re.split(r"\n(?=    \S)", found["entries"])
                    yield from ((f"{file}:{node.lineno}", found["name"], part.strip()) for part in parts)


def test_sections_are_written_in_sentences() -> None:
    found = list(entries())
    assert len(found) > 200
    texts = [
        (where, entry if name in ("Returns", "Yields") else entry.partition(": ")[2]) for where, name, entry in found
    ]
    assert [(where, text) for where, text in texts if not SENTENCE.fullmatch(text)] == []


def test_what_is_raised_exists() -> None:
    named = [(where, NAMED.fullmatch(entry)) for where, name, entry in entries() if name in ("Raises", "Warns")]
    assert [where for where, entry in named if entry is None] == []
    there = CLASSES | set(vars(builtins)) | {"typer.BadParameter"}
    assert [(where, name) for where, entry in named for name in entry["names"].split(", ") if name not in there] == []
