"""What a folder of shards was begun with, and the refusal of whatever would put other vectors or documents into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from trivec import __version__
from trivec.bulk.layout import Layout
from trivec.errors import TrivecError
from trivec.shards.columns import Vectors
from trivec.shards.encoder import ModelIdentity
from trivec.shards.passages import Reading
from trivec.shards.places import Folder
from trivec.shards.plan import Plan, plan_bytes, plan_of

# Readers of whole folders (pyarrow, Spark, DuckDB, Ray) leave out what begins with an underscore or a dot.
MANIFEST, PLAN = "_manifest.json", "_plan.jsonl"
_FORMAT = 1


class ManifestError(TrivecError):
    """A folder was begun with something else, or is none of ours; the message names each difference."""


@dataclass(frozen=True)
class Manifest:
    """What decides the content of a folder's files.

    Attributes:
        model: The model: fingerprint, precision and how long texts it reads.
        vectors: Which vectors there are.
        reading: How records become documents.
        shard_records: Most records of a shard.
        plan_digest: SHA-256 of the plan's bytes.
        layout: In which columns they are written.
        version: The version of trivec that began it.
    """

    model: ModelIdentity
    vectors: Vectors
    reading: Reading
    shard_records: int
    plan_digest: str
    layout: Layout
    version: str = __version__

    def of_model(self, model: ModelIdentity) -> Manifest:
        """Return the same with another model."""
        return replace(self, model=model)

    def made_by(self) -> dict[str, Any]:
        """What each file of the folder says of how it was made."""
        return {
            "fingerprint": self.model.fingerprint,
            "precision": self.model.precision,
            "max_length": self.model.max_length,
            **asdict(self.vectors),
            **asdict(self.layout),
            "plan": self.plan_digest,
        }


def new_manifest(
    vectors: Vectors, model: ModelIdentity, reading: Reading, shard_records: int, plan: Plan, layout: Layout
) -> Manifest:
    """Return the manifest of a folder that is begun with these."""
    return Manifest(model, vectors, reading, shard_records, hashlib.sha256(plan_bytes(plan)).hexdigest(), layout)


def write_manifest(folder: Folder, manifest: Manifest, plan: Plan) -> None:
    """Begin a folder: the plan first, so that a folder with a manifest has all it needs.

    Raises:
        OSError: It cannot be written.
    """
    with folder.writing(PLAN) as stream:
        stream.write(plan_bytes(plan))
    content = {"format": _FORMAT, "trivec": manifest.version, **asdict(manifest)}
    del content["version"]
    content["documents"], content["shards"] = plan.records, len(plan.shards)
    with folder.writing(MANIFEST) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def read_manifest(folder: Folder) -> tuple[Manifest, Plan] | None:
    """Return what a folder was begun with; None if it was not begun.

    Raises:
        ManifestError: It was begun by a later format, or a file of it is damaged.
        OSError: It cannot be read.
    """
    data = folder.read(MANIFEST)
    if data is None:
        return None
    try:
        content = json.loads(data)
        if content["format"] != _FORMAT:
            raise ManifestError(f"{folder.place} is of format {content['format']}, and this trivec knows {_FORMAT}")
        fields = content["reading"]["metadata_fields"]
        manifest = Manifest(
            ModelIdentity(**content["model"]),
            Vectors(**content["vectors"]),
            Reading(**content["reading"] | {"metadata_fields": None if fields is None else tuple(fields)}),
            content["shard_records"],
            content["plan_digest"],
            Layout(**content["layout"]),
            content["trivec"],
        )
        planned = folder.read(PLAN) or b""
        if hashlib.sha256(planned).hexdigest() != manifest.plan_digest:
            raise ManifestError(f"{folder.place}: {PLAN} is missing or damaged: begin in another folder")
        return manifest, plan_of(planned)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{folder.place}: {MANIFEST} is damaged ({error}): begin in another folder") from error


def differences(begun: Manifest, asked: Manifest) -> list[str]:
    """Say in what two manifests differ that decides vectors or documents: "precision bf16 there, int8 here"."""
    there, here = _deciding(begun), _deciding(asked)
    return [
        f"{name} {_told(there[name])} there, {_told(here[name])} here" for name in there if there[name] != here[name]
    ]


def made_otherwise(said: Mapping[str, Any], manifest: Manifest) -> list[str]:
    """Say in what a file differs from its folder, by what the file says of how it was made."""
    expected = manifest.made_by()
    return [
        f"{name} {_told(said.get(name))} instead of {_told(value)}"
        for name, value in expected.items()
        if said.get(name) != value
    ]


def _deciding(manifest: Manifest) -> dict[str, Any]:
    return {
        "model": manifest.model.fingerprint,
        "precision": manifest.model.precision,
        "max_length": manifest.model.max_length,
        **asdict(manifest.vectors),
        **asdict(manifest.layout),
        **asdict(manifest.reading),
        "records a shard": manifest.shard_records,
    }


def _told(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12}…" if isinstance(value, str) and len(value) == 64 else str(value)
