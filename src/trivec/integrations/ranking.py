"""Documents in the order in which they answer a query, best first: what each framework's reranker is a coat over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.model import M3Model
from trivec.support.addresses import is_url
from trivec.vectors.embeddings import asked_for
from trivec.vectors.scoring import colbert_score

MODES = ("colbert", "cross-encoder")
_TOKEN_VECTORS: dict[str, Any] = {"return_dense": False, "return_sparse": False, "return_colbert_vecs": True}


class Ranking(Protocol):
    """Orders documents by how well they answer a query."""

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_k` best documents, all if None, best first."""
        ...

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """As `rank`; awaits."""
        ...


class ColbertRanking:
    """Orders documents by MaxSim of BGE-M3's token vectors, with a model that embeds as well.

    A model in this process reads the query once and each document once, in flat memory. A server is sent pairs, so that
    scores come back rather than token vectors; it reads the query anew for each.
    """

    def __init__(self, shared: SharedModel) -> None:
        """Take a model.

        Raises:
            MissingHeadError: It has no head for token vectors.
        """
        shared.model.require_heads(sparse=False, colbert=True)
        self._shared = shared

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_k` best documents, all if None, best first."""
        model = self._shared.model
        if not documents:
            return []
        if is_url(model.name):
            scores = model.compute_score([(query, text) for text in documents])["colbert"]
        else:
            with closing(_stream(model, query, documents)) as each:  # type: ignore[type-var]  # it is a generator
                of_query = asked_for(next(each).colbert_vecs)
                scores = [colbert_score(of_query, asked_for(embedding.colbert_vecs)) for embedding in each]
        return best_first(scores, top_k)

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """As `rank`; awaits."""
        model = self._shared.async_model
        if not documents:
            return []
        if is_url(model.model.name):
            scores = (await model.compute_score([(query, text) for text in documents]))["colbert"]
            return best_first(scores, top_k)
        scores = []
        of_query = None
        async for embedding in model.encode_stream([query, *documents], **_TOKEN_VECTORS):
            vectors = asked_for(embedding.colbert_vecs)
            if of_query is None:
                of_query = vectors
            else:
                scores.append(await asyncio.to_thread(colbert_score, of_query, vectors))
        return best_first(scores, top_k)


def _stream(model: M3Model, query: str, documents: Sequence[str]) -> Any:
    return model.encode_stream([query, *documents], **_TOKEN_VECTORS, show_progress=False)


def best_first(scores: Sequence[float], top_k: int | None) -> list[tuple[int, float]]:
    """Return (index, score) of the `top_k` largest scores, all if None; of equal ones the first comes first."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [(i, float(scores[i])) for i in order[:top_k]]


def ranking(model: str | Path | M3Model, mode: str, **load_options: Any) -> Ranking:
    """Return what orders documents.

    Args:
        model: As of `shared_model`.
        mode: "colbert": by the token vectors of a model that embeds.
        **load_options: As of `M3Model.load`.

    Raises:
        ValueError: `mode` is something else.
        TrivecError: As by `M3Model.load`.
    """
    checked_mode(mode)
    return ColbertRanking(shared_model(model, **load_options))


def checked_mode(mode: str) -> str:
    """Return a mode, one of `MODES`.

    Raises:
        ValueError: It is something else.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not one of {', '.join(map(repr, MODES))}")
    return mode
