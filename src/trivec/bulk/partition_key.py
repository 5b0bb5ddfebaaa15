"""The field of metadata that decides in which partition of a collection a row lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trivec.bulk.limits import FIELD_NAMES
from trivec.documents import MetadataError


@dataclass(frozen=True)
class PartitionKey:
    """A field of metadata by whose value a collection is partitioned.

    Attributes:
        name: The field.
        whole_numbers: Whether its values are integers rather than texts.
    """

    name: str
    whole_numbers: bool = False

    def __str__(self) -> str:
        return f"{self.name}:int" if self.whole_numbers else self.name

    @classmethod
    def parse(cls, text: str) -> PartitionKey:
        """Read "lang", or "tenant:int" for integers.

        Raises:
            ValueError: It is neither.
        """
        name, colon, kind = text.partition(":")
        if (
            not (name.isascii() and name.isidentifier())
            or name in FIELD_NAMES
            or (colon and kind not in ("int", "str"))
        ):
            raise ValueError(
                f"partition_key is {text!r:.60}: give the name of a metadata field, or name:int for integers"
            )
        return cls(name, kind == "int")

    def value(self, metadata: Mapping[str, Any], document: str) -> str | int:
        """Return its value in the metadata of a document.

        Raises:
            MetadataError: It has none, or one of another type.
        """
        value = metadata.get(self.name)
        if isinstance(value, str) and not self.whole_numbers:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and self.whole_numbers:
            return value
        raise MetadataError(
            f"document {document[:80]!r}: its metadata {self.name!r}, by which the collection is partitioned, is "
            f"{value!r:.60}, not {'an integer' if self.whole_numbers else 'text'}"
        )
