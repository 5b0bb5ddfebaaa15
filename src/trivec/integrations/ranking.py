"""Documents in the order in which they answer a query, best first: what each framework's reranker is a coat over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.support.addresses import is_url
from trivec.vectors.embeddings import asked_for
from trivec.vectors.scoring import colbert_score

if TYPE_CHECKING:
    from trivec.model.remote import RemoteModel

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
    """Orders documents by MaxSim of BGE-M3's token vectors, with a model of this process that embeds as well.

    The query is read once and each document once, in flat memory.
    """

    def __init__(self, shared: SharedModel) -> None:
        self._shared = shared

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_k` best documents, all if None, best first."""
        if not documents:
            return []
        with closing(_stream(self._shared.model, query, documents)) as each:
            of_query = asked_for(next(each).colbert_vecs)
            scores = [colbert_score(of_query, asked_for(embedding.colbert_vecs)) for embedding in each]
        return best_first(scores, top_k)

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """As `rank`; awaits."""
        scores = []
        of_query = None
        texts = [query, *documents] if documents else []
        async for embedding in self._shared.async_model.encode_stream(texts, **_TOKEN_VECTORS):
            vectors = asked_for(embedding.colbert_vecs)
            if of_query is None:
                of_query = vectors
            else:
                scores.append(await asyncio.to_thread(colbert_score, of_query, vectors))
        return best_first(scores, top_k)


class ServedRanking:
    """Orders documents by what a server says of them, which is scores alone: no token vectors travel."""

    def __init__(self, model: RemoteModel, mode: str) -> None:
        from trivec.model.async_remote import OnServer

        self._model = model
        self._awaited = OnServer(model)
        self._mode = mode

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_k` best documents, all if None, best first."""
        return best_first(self._model.relevance(query, documents, self._mode), top_k)

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """As `rank`; awaits."""
        return best_first(await self._awaited.relevance(query, documents, self._mode), top_k)


class CrossEncoderRanking:
    """Orders documents by the scores of a cross-encoder of this process, between 0 and 1."""

    def __init__(self, reranker: M3Reranker) -> None:
        self._reranker = reranker

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_k` best documents, all if None, best first."""
        found = self._reranker.rank(query, documents, top_k, normalize=True, show_progress=False)
        return [(one.index, one.score) for one in found]

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """As `rank`; awaits."""
        return await asyncio.to_thread(self.rank, query, documents, top_k)


def _stream(model: M3Model, query: str, documents: Sequence[str]) -> Any:
    return model.encode_stream([query, *documents], **_TOKEN_VECTORS, show_progress=False)


def best_first(scores: Sequence[float], top_k: int | None) -> list[tuple[int, float]]:
    """Return (index, score) of the `top_k` largest scores, all if None; of equal ones the first comes first."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [(i, float(scores[i])) for i in order[:top_k]]


def ranking(model: str | Path | M3Model | M3Reranker, mode: str, **load_options: Any) -> Ranking:
    """Return what orders documents.

    Args:
        model: As of `shared_model`; for a cross-encoder its folder or hub id, a loaded one, or a server with one.
        mode: "colbert": by the token vectors of a model that embeds. "cross-encoder": by one that reads both together.
        **load_options: As of `M3Model.load`.

    Raises:
        ValueError: `mode` is something else.
        MissingHeadError: The model gives no token vectors.
        CheckpointError: The model is no cross-encoder, or one where none is asked for.
        TrivecError: As by `M3Model.load`.
    """
    checked_mode(mode)
    if isinstance(model, M3Reranker):
        if mode != "cross-encoder":
            raise ValueError(f"mode={mode!r} is not a cross-encoder's: give mode='cross-encoder'")
        return CrossEncoderRanking(model)
    by_server = is_url(model.name if isinstance(model, M3Model) else model)
    if mode == "cross-encoder" and not by_server:
        if isinstance(model, M3Model):
            raise ValueError(f"{model.name} gives vectors: for mode='cross-encoder' name a cross-encoder, or load one")
        return CrossEncoderRanking(M3Reranker.load(model, **load_options))
    shared = shared_model(model, **load_options)
    if mode == "colbert":
        shared.model.require_heads(sparse=False, colbert=True)
    if is_url(shared.model.name):
        from trivec.model.remote import RemoteModel

        assert isinstance(shared.model, RemoteModel)
        return ServedRanking(shared.model, mode)
    return ColbertRanking(shared)


def checked_mode(mode: str) -> str:
    """Return a mode, one of `MODES`.

    Raises:
        ValueError: It is something else.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not one of {', '.join(map(repr, MODES))}")
    return mode
