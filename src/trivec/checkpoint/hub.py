"""From a model's name to a folder on disk: a local path as it is, a hub id through huggingface_hub.

Downloads only the files the model needs, with that library's cache, progress bar, offline mode and HF_ENDPOINT. Knows
nothing about what the files hold, but for the shards that an index lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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
    try:
        folder = Path(name_or_path).expanduser()
        is_folder, exists = folder.is_dir(), folder.exists()
    except (OSError, RuntimeError) as error:  # no permission, a name too long, an unknown ~user
        raise CheckpointError(f"{name_or_path}: cannot be looked up ({error}): check the path") from error
    if is_folder:
        return folder
    if exists:
        raise CheckpointError(
            f"{folder} is a file; give the folder that holds config.json, tokenizer.json and the weights"
        )
    if isinstance(name_or_path, Path) or not _HUB_ID.fullmatch(name_or_path):
        raise CheckpointError(f"{name_or_path}: no such folder")
    return _download(name_or_path, cache_dir, revision, local_files_only)


def _download(repo_id: str, cache_dir: str | Path | None, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import errors

    repository = _Repository(repo_id, cache_dir, revision, local_files_only)
    try:
        folder = repository.fetch("config.json").parent
        for name in (TOKENIZER_FILE, *HEAD_FILES):
            repository.fetch_if_there(name)
        found = (repository.fetch_if_there(name, alternatives=True) for name in WEIGHT_FILES)
        # Where none is found, asking again raises what tells a failed request from a repository without weights.
        weights = next((path for path in found if path is not None), None) or repository.fetch(WEIGHT_FILES[0])
        if weights.name.endswith(".index.json"):
            for shard in shard_names(weights):
                repository.fetch(shard)
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        raise CheckpointError(f"{repo_id}: {_reason(error, revision)}") from error
    return folder


@dataclass(frozen=True)
class _Repository:
    """A model on the hub, by id and revision, and the cache its files come through."""

    repo_id: str
    cache_dir: str | Path | None
    revision: str | None
    local_files_only: bool

    def fetch(self, name: str) -> Path:
        """Return a file's path in the cache, downloading it if need be."""
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(
            self.repo_id,
            name,
            cache_dir=self.cache_dir,
            revision=self.revision,
            local_files_only=self.local_files_only,
        )
        return Path(str(path))

    def fetch_if_there(self, name: str, *, alternatives: bool = False) -> Path | None:
        """As `fetch`; None if the repository has no such file."""
        from huggingface_hub import _CACHED_NO_EXIST, constants, errors, try_to_load_from_cache

        # Known to be absent from this revision: asking again would cost half a minute of retries without a network.
        cached = try_to_load_from_cache(self.repo_id, name, cache_dir=self.cache_dir, revision=self.revision)
        if cached is _CACHED_NO_EXIST:
            return None
        try:
            return self.fetch(name)
        except errors.LocalEntryNotFoundError:
            # Raised for what the cache lacks offline, but also where a request failed. A head must not be taken for
            # absent because of that; of the weight files the cache may hold another one.
            if alternatives or self.local_files_only or constants.HF_HUB_OFFLINE:
                return None
            raise
        except errors.EntryNotFoundError:
            return None


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
            "local copy (a folder with config.json, tokenizer.json and the weights), set HF_ENDPOINT to a mirror, or "
            "local_files_only=True to make do with what the cache holds"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"the hub's copy lacks a file every model needs; expected one of {', '.join(WEIGHT_FILES)} ({error})"
    return f"could not be fetched from the hub ({error}): try again, or give the path of a local copy"
