"""What `trivec.search` is built on: vectors, and nothing that is built on it."""

from __future__ import annotations

import json
import subprocess
import sys

LOAD_ALL = """
import importlib, json, pkgutil, sys
sys.modules["pymilvus"] = None  # as where it is not installed
import trivec.search
for module in pkgutil.iter_modules(trivec.search.__path__, "trivec.search."):
    importlib.import_module(module.name)
print(json.dumps(sorted({".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("trivec.")})))
"""


def test_search_needs_neither_milvus_nor_a_model():
    loaded = subprocess.run([sys.executable, "-c", LOAD_ALL], capture_output=True, text=True, check=True).stdout
    assert set(json.loads(loaded)) == {"trivec.search", "trivec.support", "trivec.vectors"}


def test_the_names_of_modes_load_nothing():
    code = "import trivec.search.modes, sys; print([name for name in ('numpy', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
