"""bge-m3-lite through its own interface, on graphs that its own tools made from the benchmark's weights.

It knows the published files by size and digest and would download them; two of its lookups are replaced: the files are
taken as they lie, and the hidden size, a constant there, is the checkpoint's (so that the tiny size runs as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers import Loaded

IMPORTS = ("bge_m3_lite",)
PACKAGES = ("bge-m3-lite", "onnxruntime", "numpy")


def load(settings: dict[str, Any]) -> Loaded:
    from bge_m3_lite import BGEM3Embedder, embedder, hub

    folder = Path(settings["converted"])
    hub.ensure_files = lambda files, *_args, **_kwargs: {file.name: folder / file.name for file in files}
    embedder.HIDDEN_SIZE = settings["hidden_size"]
    model = BGEM3Embedder(
        folder, num_threads=settings["threads"], max_length=settings["max_length"], precision=settings["precision"]
    )

    def encode(texts: Sequence[str]) -> Any:
        return model.encode(texts, return_sparse=True)["dense_vecs"]

    return Loaded(encode, settings["precision"])
