"""Checkpoints in the form in which they are computed with, kept on disk so that only the first load converts.

    converted/
      <content>-<precision>/             of one checkpoint's weights, shape and tokenizer
        <version>.safetensors            the tensors; where they came from is in the header
        <version>.sha256                 its checksum, as `sha256sum` writes it; written last, so it marks a whole entry
      <content>-<precision>.lock         held while that folder is written to or deleted
      digests/                           checksums of files, so that a file that has not changed is hashed once

Knows how to keep an entry whole, current and private to one writer; knows nothing about how tensors are converted.

Limits. Mapped tensors outlive their file on a local disk under POSIX only: where machines share a network disk, each
needs a TRIVEC_CACHE of its own. Two versions of trivec that share a folder replace each other's entries. Nothing is
evicted: every checkpoint converted stays until `clear`. Without remembered checksums in a folder that cannot be written
to, every load hashes checkpoint and entry, 3.4 GB for BGE-M3.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from trivec import __version__
from trivec.checkpoint.digests import file_digest
from trivec.checkpoint.folder import Checkpoint
from trivec.checkpoint.safetensors_file import read_metadata, read_safetensors, write_safetensors
from trivec.checkpoint.tensors import StoredTensor
from trivec.errors import CheckpointError
from trivec.support.cache_folder import default_cache_folder
from trivec.support.caller import level_of_the_caller
from trivec.support.part_files import remove_leftovers, replacing

_ENTRY_FOLDER = re.compile(r"[0-9a-f]{32}-[a-z0-9]+")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConvertedModel:
    """An entry of the cache.

    Attributes:
        source: Folder of the checkpoint it was converted from.
        precision: What it is to be computed in.
        version: The trivec that converted it.
        date: When, in UTC (ISO 8601).
        bytes: Its size on disk.
        path: Its file.
    """

    source: str
    precision: str
    version: str
    date: str
    bytes: int
    path: Path


@dataclass(frozen=True)
class Cleared:
    """What clearing the cache did.

    Attributes:
        freed: Bytes that were deleted.
        being_written: Entries that were left, as another process or thread is writing them.
    """

    freed: int
    being_written: int


class ConvertedCache:
    """Converted checkpoints on disk, found by the content of their weights, the precision and trivec's version.

    Any number of processes may use a folder at once. On a local POSIX disk, a process keeps the tensors it has mapped,
    also when their entry is replaced or deleted.

    Args:
        folder: Made when something is first stored; `converted` in trivec's cache folder if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the entries lie. Raises FileNotFoundError if that takes a home folder, and the user has none."""
        return default_cache_folder() / "converted" if self._folder is None else self._folder

    def load_or_convert(
        self, source: Checkpoint, precision: str, convert: Callable[[], Iterable[tuple[str, StoredTensor]]]
    ) -> dict[str, StoredTensor]:
        """Return a checkpoint's converted tensors, memory-mapped; convert and store them if that is yet to be done.

        An entry that is damaged or of another version is replaced. If nothing can be stored, a warning says why and
        the tensors are converted in memory.

        Args:
            source: The checkpoint.
            precision: What `convert` converts to, in lower-case letters and digits.
            convert: Gives names and tensors one after another. They may depend on the checkpoint's encoder, config
                and tokenizer alone. Called once, or again if storing failed.
        """
        try:
            folder = self.folder
        except FileNotFoundError as error:
            return _convert_in_memory(convert, f"({error})")
        path = folder / f"{self._content(source)}-{precision}" / f"{__version__}.safetensors"
        stored = self._load(path)
        if stored is not None:
            return stored
        try:
            for entry in self._entry_folders():
                remove_leftovers(entry / path.name)
            with self._lock(path.parent):
                # Whoever held the lock may have done the work.
                return self._load(path) or self._convert(path, source, precision, convert)
        except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
            return _convert_in_memory(convert, f"in {folder} ({error})")

    def entries(self) -> list[ConvertedModel]:
        """List what is stored; files that are no entry are passed over."""
        found = []
        for folder in self._entry_folders():
            for path in sorted(folder.glob("*.safetensors")):
                try:
                    metadata = read_metadata(path)
                    facts = {name: metadata[name] for name in ("source", "precision", "version", "date")}
                    found.append(ConvertedModel(**facts, bytes=path.stat().st_size, path=path))
                except (OSError, CheckpointError, KeyError) as error:
                    _logger.info("%s is no converted model (%s)", path, error)
        return found

    def clear(self) -> Cleared:
        """Delete every entry but those that are being written now.

        Raises:
            OSError: A file cannot be deleted.
        """
        freed = being_written = 0
        for folder in self._entry_folders():
            try:
                with self._lock(folder, timeout=0), suppress(FileNotFoundError):  # gone: another `clear` was quicker
                    freed += sum(file.stat().st_size for file in folder.iterdir())
                    shutil.rmtree(folder)
            except Timeout:
                being_written += 1
        shutil.rmtree(self.folder / "digests", ignore_errors=True)
        return Cleared(freed, being_written)

    def _entry_folders(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (f for f in sorted(self.folder.iterdir()) if _ENTRY_FOLDER.fullmatch(f.name) and f.is_dir())

    def _lock(self, folder: Path, timeout: float = -1) -> FileLock:
        """The lock of an entry's folder. Its file is never deleted: others may wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{folder}.lock", timeout=timeout)

    def _load(self, path: Path) -> dict[str, StoredTensor] | None:
        """Map an entry, or return None if it is not there, whole and unchanged."""
        try:
            if path.with_suffix(".sha256").read_text(encoding="utf-8") == self._checksum(path):
                return read_safetensors(path)
            _logger.info("%s is damaged: converting again", path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError, CheckpointError) as error:
            _logger.info("%s is damaged (%s): converting again", path, error)
        return None

    def _convert(
        self,
        path: Path,
        source: Checkpoint,
        precision: str,
        convert: Callable[[], Iterable[tuple[str, StoredTensor]]],
    ) -> dict[str, StoredTensor]:
        """Convert and store; the lock is held, so whatever lies in the folder is outdated, damaged or left behind."""
        _logger.info("converting %s to %s, kept in %s", source.folder, precision, path)
        if path.parent.exists():
            shutil.rmtree(path.parent)
        path.parent.mkdir()
        metadata = {
            "source": str(source.folder),
            "precision": precision,
            "version": __version__,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        try:
            with replacing(path) as part:
                write_safetensors(part, convert(), metadata)
            path.with_suffix(".sha256").write_text(self._checksum(path), encoding="utf-8")
            return read_safetensors(path)
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise

    def _content(self, source: Checkpoint) -> str:
        """Name what the converted tensors depend on; the tokenizer is what int8 measures activations with."""
        shape = {name: value for name, value in asdict(source.config).items() if name != "fusion_weights"}
        parts = [
            json.dumps(shape, sort_keys=True),
            *(self._digest(file) for file in (*source.weight_files, source.tokenizer_file)),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _checksum(self, path: Path) -> str:
        return f"{self._digest(path)}  {path.name}\n"

    def _digest(self, file: Path) -> str:
        return file_digest(file, self.folder / "digests")


def _convert_in_memory(convert: Callable[[], Iterable[tuple[str, StoredTensor]]], why: str) -> dict[str, StoredTensor]:
    tensors = dict(convert())
    warnings.warn(
        f"the converted model cannot be kept {why}, so every load converts it again: set TRIVEC_CACHE to a folder that "
        "can be written to, or switch this off with use_cache=False",
        stacklevel=level_of_the_caller(),
    )
    return tensors
