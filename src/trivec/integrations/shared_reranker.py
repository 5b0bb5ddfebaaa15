"""One cross-encoder for all the objects of a process that name it."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.support.forks import ForkSafeLock

_by_name: weakref.WeakValueDictionary[str, M3Reranker] = weakref.WeakValueDictionary()
_lock = ForkSafeLock()


def shared_reranker(reranker: str | Path | M3Reranker | M3Model, **load_options: Any) -> M3Reranker:
    """Return a cross-encoder, loaded unless this process has the same one.

    Args:
        reranker: Folder, hub id, or a loaded one.
        **load_options: As of `M3Reranker.load`. None for a loaded one.

    Raises:
        TypeError: Options are given for one that is loaded.
        ValueError: What is loaded is a model that embeds.
        TrivecError: As by `M3Reranker.load`.
    """
    if isinstance(reranker, M3Model):
        raise ValueError(f"{reranker.name} gives vectors: for mode='cross-encoder' name a cross-encoder, or load one")
    if isinstance(reranker, M3Reranker):
        if load_options:
            raise TypeError(f"{', '.join(load_options)} cannot be given with a reranker that is loaded: load it so")
        return reranker
    name = repr((str(reranker), sorted(load_options.items())))
    with _lock.own():
        loaded = _by_name.get(name)
        if loaded is None or loaded.closed:
            loaded = _by_name[name] = M3Reranker.load(reranker, **load_options)
        return loaded
