"""Documents and their vectors as rows of a collection, and what Milvus cannot store said before it is sent.

This module knows nothing about connections or searching.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from trivec.bulk.limits import METADATA_BYTES, Limits, check, is_blank
from trivec.bulk.partition_key import PartitionKey
from trivec.documents import Document, MetadataError, as_document
from trivec.milvus import token_field, values
from trivec.milvus.schema import FIELDS
from trivec.milvus.token_field import TokenField
from trivec.vectors.embeddings import M3Embedding, asked_for
from trivec.vectors.pooling import pooled
from trivec.vectors.sparse import weights_by_id

# The first four are said where no pymilvus is needed.
__all__ = ["METADATA_BYTES", "Limits", "check", "checked", "id_filter", "is_blank", "metadata", "row"]

# The weight of the one entry of a document without lexical weights.
_PLACEHOLDER_WEIGHT = 1.0


def checked(
    documents: Iterable[Document | Mapping[str, Any] | str],
    limits: Limits,
    fields: Collection[str] = tuple(FIELDS),
    partition_key: PartitionKey | None = None,
) -> Iterator[Document]:
    """Yield what users pass as documents as such, each checked; metadata must not be called as one of the fields is.

    Raises:
        TypeError: There is a single document, not several, or one is of another type.
        DocumentError: As `check`, or a dict is no document, or lacks the partition key in its metadata.
    """
    if isinstance(documents, str | Mapping):
        raise TypeError(f"documents is a single {type(documents).__name__}: give a list of documents")
    for position, item in enumerate(documents):
        document = _with_plain_metadata(as_document(item, position))
        check(document, limits, fields)
        if partition_key is not None:
            partition_key.value(document.metadata, document.id)
        yield document


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
