"""From a name or path to an opened, checked, memory-mapped BGE-M3-shaped checkpoint."""

from __future__ import annotations

from pathlib import Path

from trivec.checkpoint.config import M3Config
from trivec.checkpoint.folder import Checkpoint, Classifier, Linear
from trivec.checkpoint.hub import locate
from trivec.checkpoint.tensors import StoredTensor

__all__ = ["Checkpoint", "Classifier", "Linear", "M3Config", "StoredTensor", "open_checkpoint"]


def open_checkpoint(
    name_or_path: str | Path,
    cache_dir: str | Path | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Open a local folder, or a model of the Hugging Face hub, downloading the files it needs.

    Args:
        name_or_path: A folder, "nano" for the bundled demonstration model, or a hub id such as "BAAI/bge-m3". An
            existing folder wins.
        cache_dir: Where downloads are kept; the hub library's own cache if None.
        revision: Branch, tag or commit on the hub.
        local_files_only: Use what the cache holds and never ask the hub.

    Raises:
        CheckpointError: No such folder or model, the hub is out of reach, or a file of the model is unusable.
    """
    return Checkpoint.open(locate(name_or_path, cache_dir, revision, local_files_only))
