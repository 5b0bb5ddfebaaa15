"""What the four embedders for Haystack have alike: one model, and the kind of vectors that it gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from haystack.utils import Secret

from trivec.integrations.haystack.document_texts import DocumentTexts
from trivec.integrations.haystack.loading import KEY, Loading
from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.model import M3Model


class Embedder(Loading[SharedModel]):
    """A component that gives vectors of one kind, "dense" or "sparse"."""

    kind: ClassVar[str]

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
    ) -> None:
        """Note what to load.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model`.
            api_key: A server's key, for a URL.
            load_options: Further arguments of `M3Model.load`, such as `{"precision": "int8"}`.
        """
        super().__init__(model, api_key, load_options)

    def load(self, **load_options: Any) -> SharedModel:
        """Return the model, which computes vectors of this kind along with others."""
        return shared_model(self.model, **load_options).wanting(self.kind)


class DocumentEmbedder(DocumentTexts, Embedder):
    """A component that adds vectors to documents."""

    def __init__(
        self,
        model: str | Path | M3Model = "BAAI/bge-m3",
        *,
        api_key: Secret = KEY,
        load_options: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """Note what to load.

        Args:
            model: As of a text embedder, like the next two.
            api_key: See there.
            load_options: See there.
            meta_fields_to_embed: Names of metadata that are read before the content, where a document has them.
            embedding_separator: Stands between these and the content.
        """
        super().__init__(model, api_key=api_key, load_options=load_options)
        self.read(meta_fields_to_embed, embedding_separator)
