"""A server computes for an `AsyncM3Model`, by requests that are cut off where a call is cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing

from trivec.encoding import EncodingSettings
from trivec.model.calls import EncodeCall, RerankCall, ScoreCall, ask, joined_scores
from trivec.model.http_connection import AsyncConnection
from trivec.model.in_order import in_order
from trivec.model.m3_model import M3Model
from trivec.model.remote import RemoteModel
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import PairScores


class OnServer:
    """The server of a `RemoteModel`; see `async_model.Computing`."""

    def __init__(self, model: M3Model) -> None:
        assert isinstance(model, RemoteModel)
        self._model = model
        self._connection = AsyncConnection(model.endpoint)

    def windows(
        self, texts: Iterable[str] | AsyncIterable[str], settings: EncodingSettings
    ) -> AsyncGenerator[M3Embeddings, None]:
        """Yield the vectors of one window after another."""
        call = EncodeCall(self._model.served, settings)
        return in_order(texts, self._model.gathering(settings), lambda window: ask(self._connection, call, window))

    async def scores(self, pairs: list[tuple[str, str]], settings: EncodingSettings) -> tuple[PairScores, int]:
        """Return the scores of pairs, and how many of their texts were cut."""
        call, gathering = ScoreCall(settings), self._model.gathering(settings)
        async with aclosing(in_order(pairs, gathering, lambda window: ask(self._connection, call, window))) as answers:
            return joined_scores([answer async for answer in answers])

    async def relevance(self, query: str, documents: Iterable[str], mode: str) -> list[float]:
        """As `RemoteModel.relevance`; awaits."""
        call, gathering = RerankCall(query, mode), self._model.gathering_documents()
        asked = in_order(documents, gathering, lambda window: ask(self._connection, call, window))
        async with aclosing(asked) as answers:
            return [score async for scores in answers for score in scores]

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()
