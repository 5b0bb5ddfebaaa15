"""Makes `pymilvus.model.hybrid.BGEM3EmbeddingFunction` trivec's class, where no pymilvus-model is installed.

And `pymilvus.model.reranker.BGERerankFunction`. `from pymilvus import model` and `import pymilvus.model` have
`model.hybrid` and `model.reranker` at once, as the API reference of Milvus writes it. An installed pymilvus-model keeps
its import path: usually Python finds it first, and where this folder comes first in `sys.path`, this package becomes
that one.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_here = Path(__file__).resolve().parent
_others = [entry for entry in import_module("pymilvus").__path__ if Path(entry).resolve() != _here.parent]
_installed = PathFinder.find_spec(__name__, _others)

if _installed is not None and _installed.loader is not None and _installed.origin is not None:
    __spec__, __path__, __file__ = _installed, list(_installed.submodule_search_locations or ()), _installed.origin
    _installed.loader.exec_module(sys.modules[__name__])
else:
    __all__ = ["hybrid", "reranker"]

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}: trivec provides `hybrid` and `reranker`, "
            "pymilvus-model the other models"
        )
