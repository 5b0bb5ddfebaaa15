"""A small domain that nano has never seen: what a Python function does, and the text that describes it.

Reads the docstrings of the running interpreter's standard library: a function's first sentence is the query, its name,
parameters and remaining description the passage. Writes FlagEmbedding's JSONL, split by module:
`python recipes/nano/python_docs.py FOLDER` gives train.jsonl (200 pairs), held_out.jsonl (100, to choose by) and
test.jsonl (300, to measure on); no module is in two of them.
"""

from __future__ import annotations

import ast
import json
import random
import sys
import sysconfig
from pathlib import Path

PAIRS = {"train.jsonl": 200, "held_out.jsonl": 100, "test.jsonl": 300}


def documented_functions(library: Path) -> dict[str, list[dict[str, object]]]:
    """Module to examples, for functions and classes whose docstring goes on behind its first paragraph."""
    found: dict[str, list[dict[str, object]]] = {}
    for file in sorted(library.rglob("*.py")):
        module = ".".join(file.relative_to(library).with_suffix("").parts)
        if module.startswith(("test", "idlelib", "site-packages", "lib2to3", "turtledemo")) or ".test" in module:
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        seen = set()
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            query, rest = " ".join(first.split()), " ".join(rest.split())
            if 20 <= len(query) <= 200 and len(rest) >= 80 and query not in seen:
                seen.add(query)
                found.setdefault(module, []).append({"query": query, "pos": [f"{node.name}: {rest}"], "neg": []})
    return found


def main() -> None:
    """Write the files."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    modules = documented_functions(Path(sysconfig.get_paths()["stdlib"]))
    names = sorted(modules)
    random.Random(0).shuffle(names)  # noqa: S311 - no secret
    for file, count in PAIRS.items():
        examples: list[dict[str, object]] = []
        while len(examples) < count:
            examples += modules[names.pop()]
        lines = [json.dumps(example, ensure_ascii=False) for example in examples[:count]]
        (out / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        sys.stdout.write(f"{out / file}: {len(lines)} pairs\n")


if __name__ == "__main__":
    main()
