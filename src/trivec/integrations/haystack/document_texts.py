"""Which text of a document is read: what document embedders and the ranker for Haystack have alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haystack import Document


class DocumentTexts:
    """A component that reads documents.

    Attributes:
        meta_fields_to_embed: Names of metadata that are read before the content, where a document has them.
        embedding_separator: Stands between these and the content.
    """

    meta_fields_to_embed: list[str]
    embedding_separator: str

    def read(self, meta_fields_to_embed: Sequence[str] | None, embedding_separator: str) -> None:
        """Note what is read."""
        self.meta_fields_to_embed = list(meta_fields_to_embed or ())
        self.embedding_separator = embedding_separator

    def own_parameters(self) -> dict[str, Any]:
        """Return which text of a document is read, as the constructor's arguments."""
        return {
            "meta_fields_to_embed": self.meta_fields_to_embed or None,
            "embedding_separator": self.embedding_separator,
        }

    def texts(self, documents: Sequence[Document]) -> list[str]:
        """Return the text of each document: the metadata named, those that it has, and its content.

        Raises:
            TypeError: `documents` are no documents; a query goes to a text embedder.
        """
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise TypeError(
                f"documents={documents!r:.60} must be a list of Documents; for a text there are text embedders"
            )
        return [
            self.embedding_separator.join([*self._metadata(document), document.content or ""]) for document in documents
        ]

    def _metadata(self, document: Document) -> list[str]:
        named = (document.meta.get(name) for name in self.meta_fields_to_embed)
        return [str(value) for value in named if value is not None]
