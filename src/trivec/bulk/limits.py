"""What a row of a collection may hold: how long an id, a text and metadata may be, and what they must not contain.

Said before anything is computed or sent. This module needs no pymilvus: files for a bulk import are written without it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from trivec.documents import Document, DocumentError, MetadataError

# The fields of a row that are no metadata.
FIELD_NAMES = ("id", "text", "dense", "sparse")

# Bytes of UTF-8, as a Milvus server counts them. Milvus Lite counts characters, so trivec checks both itself.
ID_BYTES = 1_024
TEXT_BYTES = 65_535

# Bytes of JSON that a Milvus server takes in the dynamic field.
METADATA_BYTES = 65_536


@dataclass(frozen=True)
class Limits:
    """The longest id and text of a collection, in bytes of UTF-8."""

    id_bytes: int = ID_BYTES
    text_bytes: int = TEXT_BYTES


def is_blank(text: str) -> bool:
    """Return whether a text has nothing to find: no character but space, control and invisible ones."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


def check(document: Document, limits: Limits, fields: Collection[str] = FIELD_NAMES) -> None:
    """Refuse a document that Milvus cannot store whole.

    Raises:
        DocumentError: The id is empty, too long or holds a control character; the text is too long or cannot be written
            as UTF-8.
        MetadataError: The metadata is too long, is not JSON, or uses the name of a field.
    """
    name = f"document {document.id[:80]!r}"
    if not document.id or any(character < " " or character == "\x7f" for character in document.id):
        raise DocumentError(
            f"{name}: an id, which may be the name of a file, must not be empty nor hold control characters: rename it"
        )
    if (length := _utf8_bytes(name, "id", document.id)) > limits.id_bytes:
        raise DocumentError(f"{name}: its id has {length:,} bytes, but the collection holds {limits.id_bytes:,}")
    if (length := _utf8_bytes(name, "text", document.text)) > limits.text_bytes:
        raise DocumentError(
            f"{name}: its text has {length:,} bytes of UTF-8, but the collection holds {limits.text_bytes:,}: "
            "cut it into chunks (trivec.documents.chunking.chunk_documents)"
        )
    length = 0
    for key, value in document.metadata.items():
        if not isinstance(key, str):
            raise MetadataError(
                f"{name}: its metadata has the key {key!r:.60} ({type(key).__name__}): the name of a field is a str"
            )
        if key in fields or key == "$meta":
            raise MetadataError(f"{name}: its metadata cannot be called {key!r}: rename or leave out that key")
        try:
            length += len(json.dumps({key: value}, ensure_ascii=False, allow_nan=False).encode())
            _check_integers(value)
        except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
            raise MetadataError(
                f"{name}: Milvus cannot hold its metadata {key!r} ({error}): convert or leave out that key"
            ) from error
    if length > METADATA_BYTES:
        raise MetadataError(
            f"{name}: its metadata has {length:,} bytes of JSON, but Milvus holds {METADATA_BYTES:,}: leave fields out"
        )


def _check_integers(value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} is beyond 64 bits")
    if isinstance(value, Mapping):
        value = value.values()
    if not isinstance(value, str | int | float | None):
        for element in value:
            _check_integers(element)


def _utf8_bytes(name: str, field: str, value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise DocumentError(
            f"{name}: its {field} holds a lone surrogate (U+{code:04X}, character {error.start}), which UTF-8 and so "
            "Milvus cannot hold: remove it"
        ) from error
