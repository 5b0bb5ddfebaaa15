"""Whether a folder of shards is complete and as it was written: what is missing, damaged or of another model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from trivec.shards.manifest import MANIFEST, Manifest, ManifestError, made_otherwise, read_manifest
from trivec.shards.places import Folder
from trivec.shards.shard_file import DamagedFileError, made_by, verify

Kind = Literal["missing", "damaged", "of another model", "not of this folder"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a folder: a file's name, in what way, and how it shows."""

    name: str
    kind: Kind
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}" + (f" ({self.reason})" if self.reason else "")


def begun(folder: Folder) -> tuple[Manifest, int]:
    """Return what a folder was begun with and its number of shards.

    Raises:
        ManifestError: It was not begun, or its manifest or plan is damaged.
        OSError: It cannot be read.
    """
    found = read_manifest(folder)
    if found is None:
        raise ManifestError(f"{folder.place} holds no {MANIFEST}: it is no folder that `trivec encode` made")
    return found[0], len(found[1].shards)


def check_folder(folder: Folder, progress: Callable[[str], object] = lambda _: None) -> Iterator[Finding]:
    """Read every file of a folder and hold it against its own checksum and against the folder's manifest and plan.

    Args:
        folder: The folder.
        progress: Called with the name of each shard that has been looked at.

    Yields:
        What is wrong, in the order of the shards; then files that belong to no shard.

    Raises:
        ManifestError: As of `begun`.
        OSError: A file cannot be read.
    """
    found = read_manifest(folder)
    if found is None:
        begun(folder)
        return
    manifest, plan = found
    there = folder.names()
    for shard in plan.shards:
        finding = _finding(folder, shard.name, manifest) if shard.name in there else Finding(shard.name, "missing")
        if finding is not None:
            yield finding
        progress(shard.name)
    others = there - {shard.name for shard in plan.shards}
    yield from (Finding(name, "not of this folder") for name in sorted(others) if not name.startswith(("_", ".")))


def _finding(folder: Folder, name: str, manifest: Manifest) -> Finding | None:
    with folder.opened(name) as stream:
        try:
            verify(stream)
            other = made_otherwise(made_by(stream), manifest)
        except DamagedFileError as error:
            return Finding(name, "damaged", str(error))
    return Finding(name, "of another model", "; ".join(other)) if other else None
