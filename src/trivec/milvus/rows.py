"""Documents and their vectors as rows of a collection, and what Milvus cannot store said before it is sent.

This module knows nothing about connections or searching.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trivec.documents import Document, DocumentError
from trivec.embeddings import M3Embedding
from trivec.milvus.schema import Limits

FIELDS = ("id", "text", "dense", "sparse")

# Bytes of JSON that a Milvus server takes in the dynamic field.
METADATA_BYTES = 65_536

# The weight of the one entry of a document without lexical weights.
_PLACEHOLDER_WEIGHT = 1.0


def check(document: Document, limits: Limits) -> None:
    """Refuse a document that Milvus cannot store whole.

    Raises:
        DocumentError: the id is empty, too long or holds a control character; the text is too long or cannot be written
            as UTF-8; the metadata is too long, is not JSON, or uses the name of a field.
    """
    name = f"document {document.id[:80]!r}"
    if not document.id or any(character < " " or character == "\x7f" for character in document.id):
        raise DocumentError(f"{name}: an id must not be empty nor hold control characters")
    if (length := _utf8_bytes(name, "id", document.id)) > limits.id_bytes:
        raise DocumentError(f"{name}: its id has {length:,} bytes, but the collection holds {limits.id_bytes:,}")
    if (length := _utf8_bytes(name, "text", document.text)) > limits.text_bytes:
        raise DocumentError(
            f"{name}: its text has {length:,} bytes of UTF-8, but the collection holds {limits.text_bytes:,}: "
            "cut it into chunks (trivec.chunking.chunk_documents)"
        )
    if not document.metadata:
        return
    for key in document.metadata:
        if not isinstance(key, str) or key in FIELDS or key == "$meta":
            raise DocumentError(f"{name}: its metadata cannot be called {key!r}: rename or leave out that key")
    try:
        length = len(json.dumps(document.metadata, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        raise DocumentError(f"{name}: its metadata is not JSON: {error}") from error
    if length > METADATA_BYTES:
        raise DocumentError(
            f"{name}: its metadata has {length:,} bytes of JSON, but Milvus holds {METADATA_BYTES:,}: leave fields out"
        )


def row(document: Document, embedding: M3Embedding, unused_token_id: int) -> dict[str, Any]:
    """Return the row of a document: its four fields and, beside them, its metadata.

    Milvus Lite 3.2.2 refuses a sparse vector without entries (a server takes one since 2.4.12). A document without
    lexical weights is therefore stored with one entry at `unused_token_id`, a special token, on which no query ever has
    weight: sparse search never finds the row and dense search does, on both.
    """
    sparse = {} if embedding.sparse is None else sparse_weights(embedding.sparse)
    return {
        **document.metadata,
        "id": document.id,
        "text": document.text,
        "dense": embedding.dense,
        "sparse": sparse or {unused_token_id: _PLACEHOLDER_WEIGHT},
    }


def sparse_weights(sparse: Any) -> dict[int, float]:
    """Return the positive weights of a sparse row (1 x vocabulary, CSR) by token id."""
    pairs = zip(sparse.indices.tolist(), sparse.data.tolist(), strict=True)
    return {token_id: weight for token_id, weight in pairs if weight > 0}


def metadata(entity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a row as Milvus gives it back."""
    return {name: value for name, value in entity.items() if name not in FIELDS}


def id_filter(ids: Sequence[str]) -> str:
    """Return the filter expression for rows with these ids, whatever quotes or backslashes they hold."""
    return f"id in {json.dumps(list(ids), ensure_ascii=False)}"


def sparse_score(query: Mapping[int, float], stored: Mapping[int, float]) -> float:
    """Return the lexical score: the sum over shared token ids of the product of weights."""
    return sum((weight * stored[token_id] for token_id, weight in query.items() if token_id in stored), 0.0)


def _utf8_bytes(name: str, field: str, value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise DocumentError(
            f"{name}: its {field} holds a lone surrogate (U+{code:04X}, character {error.start}), which UTF-8 and so "
            "Milvus cannot hold: remove it"
        ) from error
