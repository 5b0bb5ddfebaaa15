"""A reranker as a pydantic model, which is what LangChain and LlamaIndex want of one; both bring pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr

from trivec.integrations.ranking import Ranking, ranking
from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.support.arguments import whole_number


class Reranker(BaseModel):
    """Stands before the framework's own class among the bases, and has the constructor.

    Attributes:
        mode: What scores documents.
        top_n: How many of them are given back; all if None.
    """

    mode: str = Field(default="colbert", description="What scores documents.")
    top_n: int | None = Field(default=None, description="How many documents are given back; all if None.")
    _ranking: Ranking = PrivateAttr()

    def __init__(
        self,
        model: str | Path | M3Model | M3Reranker | None = None,
        *,
        mode: str = "colbert",
        top_n: int | None = None,
        **load_options: Any,
    ) -> None:
        """Load the model, unless this process has it from before.

        Args:
            model: Folder, hub id, URL of a server (`trivec serve`), or a loaded `M3Model` or `M3Reranker`; None is
                BAAI/bge-m3, or for cross-encoders BAAI/bge-reranker-v2-m3.
            mode: "colbert": BGE-M3's token vectors, of the model that embeds as well. "cross-encoder": a model that
                reads query and document together; on a server the one that it was given with `--reranker`.
            top_n: How many documents are given back; all if None.
            **load_options: As of `M3Model.load`.

        Raises:
            ValueError: `mode` or `top_n` is out of its range.
            MissingHeadError: The model gives no token vectors.
            TrivecError: As by `M3Model.load`.
        """
        if top_n is not None:
            top_n = whole_number("top_n", top_n)
        ranks = ranking(model, mode, **load_options)
        super().__init__(mode=mode, top_n=top_n)
        self._ranking = ranks
