"""What a document is: an id, a text and metadata. Knows nothing about files, tokens, vectors or Milvus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from trivec.errors import TrivecError


class DocumentError(TrivecError):
    """A document or its file cannot be used; the message names the file and line, or the document's id."""


class MetadataError(DocumentError):
    """A document's metadata cannot be stored; the message names the document and the key."""


@dataclass(frozen=True)
class Document:
    """One text to encode or store.

    Attributes:
        id: What identifies the document; storing another one with the same id replaces it.
        text: The text itself.
        metadata: Further fields by name, of values that JSON can hold.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def content_id(text: str) -> str:
    """Return the id of a text that comes without one: the first 32 hex digits of its SHA-256.

    >>> content_id("Alan Turing")
    '4ba38d48a60f1b29e9eb726eaff08b2e'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def as_document(item: Document | Mapping[str, Any] | str, position: int) -> Document:
    """Turn what users pass as a document into a `Document`.

    Args:
        item: A `Document`; a dict with "text" and optionally "id" (a str or an int, also NumPy's) and "metadata" (a
            dict); or a str. Where no id is given, it is derived from the text (`content_id`).
        position: The item's place in its iterable, for error messages.

    Raises:
        TypeError: `item` or one of its fields is of another type; the message names the position.
        DocumentError: The dict lacks "text" or holds a key other than the three.
    """
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return Document(content_id(item), item)
    if not isinstance(item, Mapping):
        raise TypeError(f"document {position} is {type(item).__name__}, not a str, a dict or a trivec Document")
    unknown = [key for key in item if key not in ("id", "text", "metadata")]
    if unknown:
        raise DocumentError(
            f"document {position} has the key {unknown[0]!r}: a document holds 'id', 'text' and 'metadata', "
            f"so put {unknown[0]!r} inside 'metadata'"
        )
    if "text" not in item:
        raise DocumentError(f"document {position} has no 'text'")
    text, metadata = item["text"], item.get("metadata") or {}
    if not isinstance(text, str):
        raise TypeError(f"the text of document {position} is {type(text).__name__}, not str")
    if not isinstance(metadata, Mapping):
        raise TypeError(f"the metadata of document {position} is {type(metadata).__name__}, not a dict")
    identifier = item.get("id")
    if identifier is None:
        return Document(content_id(text), text, metadata)
    if isinstance(identifier, bool) or not isinstance(identifier, str | Integral):
        raise TypeError(f"the id of document {position} is {type(identifier).__name__}, not a str or an int")
    return Document(str(identifier), text, metadata)
