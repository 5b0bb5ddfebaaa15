"""From a model's name to a folder on disk: a local path as it is, the bundled model, a hub id through huggingface_hub.

Downloads only the files the model needs, with that library's cache, progress bar, offline mode and HF_ENDPOINT. Knows
nothing about what the files hold, but for the shards that an index lists.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from trivec.checkpoint.folder import HEAD_FILES, TOKENIZER_FILE, WEIGHT_FILES, shard_names
from trivec.errors import CheckpointError
from trivec.support.addresses import is_url

# The small demonstration model that comes with the package. Only this name chooses it.
BUNDLED = "nano"
DEFAULT_MODEL = "BAAI/bge-m3"
_PATIENCE = 5.0  # seconds that the hub may take to begin an answer
_logger = logging.getLogger(__name__)
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
    if is_url(name_or_path):
        raise CheckpointError(
            f"{name_or_path:.100} is the address of a server, and what is to be done here needs the model's files: "
            "name a folder or a hub id"
        )
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
    if name_or_path == BUNDLED:
        return Path(str(files("trivec"))) / "data" / BUNDLED
    if isinstance(name_or_path, Path) or not _HUB_ID.fullmatch(name_or_path):
        raise CheckpointError(f"{name_or_path}: {_near_miss(folder)}no such folder")
    return _download(name_or_path, cache_dir, revision, local_files_only)


def _near_miss(folder: Path) -> str:
    """Say which model may be meant by a name that is none: a well-known one or one of that folder, if spelt alike."""
    models = {BUNDLED: BUNDLED, DEFAULT_MODEL: DEFAULT_MODEL}
    with suppress(OSError):
        models |= {each.name: str(each) for each in folder.parent.iterdir() if (each / "config.json").is_file()}
    lowered = {name.lower(): meant for name, meant in models.items()}
    alike = get_close_matches(str(folder).lower(), lowered, 1) or get_close_matches(folder.name.lower(), lowered, 1)
    return f"did you mean {lowered[alike[0]]}? " if alike else ""


def _download(repo_id: str, cache_dir: str | Path | None, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import constants, errors

    repository = _Repository(repo_id, cache_dir, revision, local_files_only or constants.HF_HUB_OFFLINE)
    if not repository.offline and not repository.answers("config.json"):
        repository = replace(repository, out_of_reach=True)
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
        raise CheckpointError(f"{repo_id}: {_near_miss(Path(repo_id))}{_reason(error, repository)}") from error
    return folder


@dataclass(frozen=True)
class _Repository:
    """A model on the hub, by id and revision, and the cache its files come through."""

    repo_id: str
    cache_dir: str | Path | None
    revision: str | None
    offline: bool
    """The hub is not to be asked."""
    out_of_reach: bool = False
    """The hub was asked, and does not answer."""

    def answers(self, name: str) -> bool:
        """Whether the hub says anything about a file, if only that there is none.

        It is asked twice at most. The hub's own library would go on for half a minute, and that for each file.
        """
        from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.repo_id, name, revision=self.revision)
        for attempt in range(2):
            began = time.monotonic()
            try:
                get_hf_file_metadata(url, timeout=_PATIENCE)
            except errors.HfHubHTTPError as error:
                status = getattr(error.response, "status_code", 404)
                if status < 500:
                    return True
            except Exception as error:  # of whatever library carries HTTP, which differs by version
                _logger.info("%s cannot be reached (%s)", url, error)
                if time.monotonic() - began > _PATIENCE / 2:  # silence, which another attempt would only double
                    return False
            else:
                return True
            if attempt == 0:
                time.sleep(1)
        return False

    def fetch(self, name: str) -> Path:
        """Return a file's path in the cache, downloading it if need be."""
        from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

        local = self.offline or self.out_of_reach
        unknown = not local and try_to_load_from_cache(self.repo_id, name, self.cache_dir, self.revision) is None
        if unknown and not self.answers(name):
            raise errors.LocalEntryNotFoundError(f"the hub does not answer about {name}")
        path = hf_hub_download(
            self.repo_id, name, cache_dir=self.cache_dir, revision=self.revision, local_files_only=local
        )
        return Path(str(path))

    def fetch_if_there(self, name: str, *, alternatives: bool = False) -> Path | None:
        """As `fetch`; None if the repository has no such file."""
        from huggingface_hub import _CACHED_NO_EXIST, errors, try_to_load_from_cache

        # Known to be absent from this revision: not asked for again.
        cached = try_to_load_from_cache(self.repo_id, name, cache_dir=self.cache_dir, revision=self.revision)
        if cached is _CACHED_NO_EXIST:
            return None
        try:
            return self.fetch(name)
        except errors.LocalEntryNotFoundError:
            # Raised for what the cache lacks offline, but also where a request failed. A head must not be taken for
            # absent because of that; of the weight files the cache may hold another one.
            if alternatives or self.offline:
                return None
            raise
        except errors.EntryNotFoundError:
            return None


def _reason(error: Exception, repository: _Repository) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {repository.revision!r} of it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "no local folder of that name, and no such model on the hub that you may read "
            "(for a private one run `hf auth login`)"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            "no local folder of that name, the hub is "
            + ("not asked (offline)" if repository.offline else "out of reach")
            + " and the cache lacks the model: give the path of a local copy (a folder with config.json, "
            "tokenizer.json and the weights), download it where there is a network, or set HF_ENDPOINT to a mirror"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"the hub's copy lacks a file every model needs; expected one of {', '.join(WEIGHT_FILES)} ({error})"
    return f"could not be fetched from the hub ({error}): try again, or give the path of a local copy"
