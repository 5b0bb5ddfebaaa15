"""From a model's name to a folder on disk: a local path as it is, a hub id through huggingface_hub.

Downloads only the files the model needs, with that library's cache, progress bar, offline mode and HF_ENDPOINT. Knows
nothing about what the files hold, but for the shards that an index lists.
"""

from __future__ import annotations

import re
from pathlib import Path

from trivec.checkpoint.folder import HEAD_FILES, TOKENIZER_FILE, WEIGHT_FILES, shard_names
from trivec.errors import CheckpointError

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def locate(
    name_or_path: str | Path,
    cache_dir: str | Path | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder of a model, downloading what is missing; arguments as for `open_checkpoint`.

    Raises:
        CheckpointError: No such folder or hub model, or the hub is out of reach and the cache lacks the model.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(
            f"{folder} is a file; give the folder that holds config.json, tokenizer.json and the weights"
        )
    if isinstance(name_or_path, Path) or not _HUB_ID.fullmatch(name_or_path):
        raise CheckpointError(f"{name_or_path}: no such folder")
    return _download(name_or_path, cache_dir, revision, local_files_only)


def _download(repo_id: str, cache_dir: str | Path | None, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import _CACHED_NO_EXIST, errors, hf_hub_download, try_to_load_from_cache

    def fetch(name: str) -> Path:
        path = hf_hub_download(repo_id, name, cache_dir=cache_dir, revision=revision, local_files_only=local_files_only)
        return Path(str(path))

    def fetch_if_there(name: str) -> Path | None:
        # Known to be absent from this revision: asking again would cost half a minute of retries without a network.
        if try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=revision) is _CACHED_NO_EXIST:
            return None
        try:
            return fetch(name)
        except errors.EntryNotFoundError:  # not in the repository, or (offline) not in the cache
            return None

    try:
        folder = fetch("config.json").parent
        for name in (TOKENIZER_FILE, *HEAD_FILES):
            fetch_if_there(name)
        weights = next((path for path in map(fetch_if_there, WEIGHT_FILES) if path is not None), None)
        if weights is not None and weights.name.endswith(".index.json"):
            for shard in shard_names(weights):
                fetch(shard)
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        raise CheckpointError(f"{repo_id}: {_reason(error, revision)}") from error
    return folder


def _reason(error: Exception, revision: str | None) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {revision!r} of it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "no local folder of that name, and no such model on the hub that you may read "
            "(for a private one run `hf auth login`)"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            "no local folder of that name, the hub is out of reach and the cache lacks the model: give the path of a "
            "local copy (a folder with config.json, tokenizer.json and the weights), or set HF_ENDPOINT to a mirror"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"the hub's copy lacks a file every model needs ({error})"
    return f"could not be fetched from the hub ({error}): try again, or give the path of a local copy"
