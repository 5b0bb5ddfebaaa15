"""Dense vectors for LlamaIndex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.model import M3Model

_DEFAULT_MODEL = "BAAI/bge-m3"


class TrivecEmbedding(BaseEmbedding):
    """BGE-M3's dense vectors, of length 1.

    Where there is a `TrivecSparseEmbedding` of the same model, the sparse vectors of the texts are computed along.
    """

    load_options: dict[str, Any] = Field(default_factory=dict, description="What the model was loaded with.")
    _shared: SharedModel = PrivateAttr()

    def __init__(
        self,
        model: str | Path | M3Model | None = None,
        *,
        model_name: str = _DEFAULT_MODEL,
        embed_batch_size: int = 1024,
        load_options: dict[str, Any] | None = None,
        api_key: str | None = None,
        **options: Any,
    ) -> None:
        """Load the model, unless this process has it from before.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model`.
            model_name: The same by the name that LlamaIndex stores it under; for `model` None.
            embed_batch_size: Texts handed over at once. The model makes batches of like length out of these, so that
                more are faster, in the memory of one batch.
            load_options: As of `M3Model.load`, such as `{"precision": "int8"}`.
            api_key: Of a server; never stored. What TRIVEC_API_KEY in the environment says if None.
            **options: As of `BaseEmbedding`: `callback_manager`, `num_workers`, `embeddings_cache`, `rate_limiter`.

        Raises:
            TypeError: `load_options` are given for a model that is loaded.
            TrivecError: As by `M3Model.load`.
        """
        asked = dict(load_options or {})
        key = {} if api_key is None else {"api_key": api_key}
        shared = shared_model(model_name if model is None else model, **asked, **key).wanting("dense")
        super().__init__(model_name=shared.model.name, embed_batch_size=embed_batch_size, load_options=asked, **options)
        self._shared = shared

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with an index."""
        return "TrivecEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._shared.dense([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._shared.dense(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._shared.dense([query])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._shared.adense([text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._shared.adense(texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._shared.adense([query]))[0]
