"""What a collection says of the model that made its vectors, and whether another model may use it.

Vectors of different models have nothing to do with each other, though they have the same size: searched with another
model, a collection answers wrongly without a word. The record is kept in properties of the collection, which a server
and Milvus Lite both store. Collections made before there was one, or by other means, have none. This module knows
nothing about requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivec.model import M3Model

_NAME, _FINGERPRINT, _PRECISION = "trivec.model", "trivec.fingerprint", "trivec.precision"
_STATE = "trivec.encoding"

# Digits of a fingerprint that tell two models apart for people.
_DIGITS_SHOWN = 12


@dataclass(frozen=True)
class ModelRecord:
    """The model that a collection's vectors were made with.

    Attributes:
        name: What it was loaded as: a hub id, "nano", or the absolute path of a folder.
        fingerprint: `M3Model.fingerprint`, which any change of its content changes.
        precision: What the first documents were computed in, see `M3Model.load`.
        unfinished: Whether its documents are only in part encoded with this model, as re-encoding them was interrupted.
    """

    name: str
    fingerprint: str
    precision: str
    unfinished: bool = False

    @classmethod
    def of(cls, model: M3Model, *, unfinished: bool = False) -> ModelRecord:
        """Return the record of a loaded model."""
        folder = Path(model.name)
        is_folder = folder.is_dir() and folder.resolve() == model.checkpoint.folder.resolve()
        name = str(folder.resolve()) if is_folder else model.name
        return cls(name, model.fingerprint, model.precision, unfinished)

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> ModelRecord | None:
        """Return the record that a collection's properties hold; None where they hold none."""
        name, fingerprint = properties.get(_NAME), properties.get(_FINGERPRINT)
        if not name or not fingerprint:
            return None
        return cls(
            str(name), str(fingerprint), str(properties.get(_PRECISION, "")), properties.get(_STATE) == "unfinished"
        )

    def properties(self) -> dict[str, str]:
        """Return the properties that hold the record."""
        return {
            _NAME: self.name,
            _FINGERPRINT: self.fingerprint,
            _PRECISION: self.precision,
            _STATE: "unfinished" if self.unfinished else "complete",
        }

    def __str__(self) -> str:
        return f"{self.name!r} ({self.fingerprint[:_DIGITS_SHOWN]})"

    def why_not(self, other: ModelRecord) -> str:
        """Return why a collection with this record must not be used with the model `other`; empty if it may."""
        remedy = "with reencode=True (trivec index --reencode)"
        if self.fingerprint != other.fingerprint:
            return (
                f"its vectors are those of the model {self}, not of {other}: take its own model, or have all its "
                f"documents encoded again {remedy}"
            )
        if self.unfinished:
            return f"encoding its documents again with {self} was interrupted: finish it {remedy}"
        return ""
