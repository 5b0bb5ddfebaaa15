"""Documents and their vectors as rows of a collection, and what Milvus cannot store said before it is sent.

This module knows nothing about connections or searching.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from trivec.documents import Document, DocumentError, MetadataError, as_document
from trivec.milvus import token_field, values
from trivec.milvus.schema import FIELDS, Limits
from trivec.milvus.token_field import TokenField
from trivec.vectors.embeddings import M3Embedding, asked_for
from trivec.vectors.pooling import pooled
from trivec.vectors.sparse import weights_by_id

# Bytes of JSON that a Milvus server takes in the dynamic field.
METADATA_BYTES = 65_536

# The weight of the one entry of a document without lexical weights.
_PLACEHOLDER_WEIGHT = 1.0


def checked(
    documents: Iterable[Document | Mapping[str, Any] | str], limits: Limits, fields: Collection[str] = tuple(FIELDS)
) -> Iterator[Document]:
    """Yield what users pass as documents as such, each checked; metadata must not be called as one of the fields is.

    Raises:
        TypeError: There is a single document, not several, or one is of another type.
        DocumentError: As `check`, or a dict is no document.
    """
    if isinstance(documents, str | Mapping):
        raise TypeError(f"documents is a single {type(documents).__name__}: give a list of documents")
    for position, item in enumerate(documents):
        document = _with_plain_metadata(as_document(item, position))
        check(document, limits, fields)
        yield document


def is_blank(text: str) -> bool:
    """Return whether a text has nothing to find: no character but space, control and invisible ones."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


def check(document: Document, limits: Limits, fields: Collection[str] = tuple(FIELDS)) -> None:
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


def _with_plain_metadata(document: Document) -> Document:
    """Return the document with values of NumPy in its metadata as Python's.

    Raises:
        MetadataError: A dict inside its metadata has a key that is not a str.
    """
    metadata = {}
    for key, value in document.metadata.items():
        try:
            metadata[key] = values.plain(value)
        except TypeError as error:
            raise MetadataError(
                f"document {document.id[:80]!r}: Milvus cannot hold its metadata {key!r} ({error}): convert it"
            ) from error
    return Document(document.id, document.text, metadata)


def row(
    document: Document, embedding: M3Embedding, unused_token_id: int, tokens: TokenField | None = None
) -> dict[str, Any]:
    """Return the row of a document: its four fields, its token vectors if they are kept and, beside them, its metadata.

    Milvus Lite 3.2.2 refuses a sparse vector without entries (a server takes one since 2.4.12). A document without
    lexical weights is therefore stored with one entry at `unused_token_id`, a special token, on which no query ever has
    weight: sparse search never finds the row and dense search does, on both.
    """
    sparse = {} if embedding.sparse is None else weights_by_id(embedding.sparse)
    kept = {}
    if tokens is not None:
        kept[token_field.NAME] = tokens.value(document.text, pooled(asked_for(embedding.colbert_vecs), tokens.pool))
    return {
        **document.metadata,
        "id": document.id,
        "text": document.text,
        "dense": embedding.dense,
        "sparse": sparse or {unused_token_id: _PLACEHOLDER_WEIGHT},
        **kept,
    }


def metadata(entity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a row as Milvus gives it back."""
    return {name: value for name, value in entity.items() if name not in FIELDS}


def id_filter(ids: Sequence[str]) -> str:
    """Return the filter expression for rows with these ids, whatever quotes or backslashes they hold."""
    return f"id in {json.dumps(list(ids), ensure_ascii=False)}"


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
