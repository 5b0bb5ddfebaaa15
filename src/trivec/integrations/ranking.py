"""Documents in the order in which they answer a query, best first: what each framework's reranker is a coat over."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trivec.encoding import warn_of_truncation
from trivec.integrations.shared_model import SharedModel, shared_model
from trivec.integrations.shared_reranker import shared_reranker
from trivec.model import M3Model
from trivec.model.m3_reranker import DEFAULT_RERANKER, M3Reranker
from trivec.support.addresses import is_url
from trivec.support.forks import PerProcess
from trivec.vectors.embeddings import asked_for
from trivec.vectors.scoring import colbert_score

if TYPE_CHECKING:
    from trivec.model.remote import RemoteModel
    from trivec.scheduling.scheduler import Scheduler

# By mode, the model that is meant where none is named.
MODES = {"colbert": "BAAI/bge-m3", "cross-encoder": DEFAULT_RERANKER}
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


class CrossEncoderRanking:
    """Orders documents by a model of this process that reads query and document together; scores are from 0 to 1."""

    def __init__(self, reranker: M3Reranker) -> None:
        self._reranker = reranker
        self._queue: PerProcess[Scheduler] | None = None

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_k` best documents, all if None, best first."""
        found = self._reranker.rank(query, documents, top_k, normalize=True, show_progress=False)
        return [(each.index, each.score) for each in found]

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> list[tuple[int, float]]:
        """As `rank`; awaits."""
        reranker = self._reranker
        settings = reranker.scoring_settings(normalize=True, show_progress=False)
        pairs = [(query, text) for text in documents]
        tokenized = await asyncio.to_thread(reranker.tokenized, pairs, settings)
        hidden = await asyncio.wrap_future(self._scheduler().submit(tokenized, settings.encoding))
        warn_of_truncation(len(tokenized.cut), len(pairs), settings.encoding.max_length, what="pairs")
        return best_first(reranker.scores_of(hidden, settings), top_k)

    def _scheduler(self) -> Scheduler:
        def make() -> Scheduler:
            return self._reranker.scheduler(max_queue_tokens=sys.maxsize)

        if self._queue is None:
            self._queue = PerProcess(make(), make)  # a forked child has none of its threads
        return self._queue.get()


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


def _stream(model: M3Model, query: str, documents: Sequence[str]) -> Any:
    return model.encode_stream([query, *documents], **_TOKEN_VECTORS, show_progress=False)


def best_first(scores: Sequence[float], top_k: int | None) -> list[tuple[int, float]]:
    """Return (index, score) of the `top_k` largest scores, all if None; of equal ones the first comes first."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [(i, float(scores[i])) for i in order[:top_k]]


def ranking(model: str | Path | M3Model | M3Reranker | None, mode: str, **load_options: Any) -> Ranking:
    """Return what orders documents.

    Args:
        model: Folder, hub id, URL of a server, or what is loaded; None is BAAI/bge-m3, or BAAI/bge-reranker-v2-m3.
        mode: "colbert": by the token vectors of a model that embeds. "cross-encoder": by a model that reads query and
            document together, on a server by the one that it was given with `--reranker`.
        **load_options: As of `M3Model.load`.

    Raises:
        ValueError: `mode` is something else, or what is loaded is not for this mode.
        TypeError: Options are given for what is loaded.
        MissingHeadError: The model gives no token vectors.
        TrivecError: As by `M3Model.load`.
    """
    checked_mode(mode)
    model = MODES[mode] if model is None else model
    on_server = is_url(model.name if isinstance(model, (M3Model, M3Reranker)) else model)
    if mode == "cross-encoder" and not on_server:
        return CrossEncoderRanking(shared_reranker(model, **load_options))
    if isinstance(model, M3Reranker):
        raise ValueError(f"mode={mode!r} is not a cross-encoder's: give mode='cross-encoder'")
    shared = shared_model(model, **load_options)
    if on_server:
        from trivec.model.remote import RemoteModel

        assert isinstance(shared.model, RemoteModel)
        if mode == "colbert":
            shared.model.require_heads(sparse=False, colbert=True)
        return ServedRanking(shared.model, mode)
    shared.model.require_heads(sparse=False, colbert=True)
    return ColbertRanking(shared)


def checked_mode(mode: str) -> str:
    """Return a mode, one of `MODES`.

    Raises:
        ValueError: It is something else.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not one of {', '.join(map(repr, MODES))}")
    return mode
