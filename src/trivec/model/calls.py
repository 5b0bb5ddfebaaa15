"""The calls of which a server computes something: what is sent, and what the answer means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from trivec.checkpoint.tokenizer import without_lone_surrogates
from trivec.encoding import EncodingSettings
from trivec.model import wire
from trivec.model.http_connection import AsyncConnection
from trivec.model.served import Served
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import PairScores

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Call(Protocol[T_co]):
    """What the requests of a call ask for."""

    path: str

    def body(self, elements: list[bytes]) -> bytes:
        """Return a request."""
        ...

    def read(self, answer: Any, count: int) -> T_co:
        """Read what a request of so many elements was answered with."""
        ...


class EncodeCall:
    """Asks for the vectors of texts."""

    path = "/encode"

    def __init__(self, served: Served, settings: EncodingSettings) -> None:
        self._dim, self._settings = served.dim, settings

    def body(self, elements: list[bytes]) -> bytes:
        """Return a request for the vectors of texts."""
        return wire.body("inputs", elements, wire.encode_fields(self._settings))

    def read(self, answer: Any, count: int) -> M3Embeddings:
        """Read the vectors of so many texts."""
        return wire.read_embeddings(answer, count, self._settings, self._dim)


class ScoreCall:
    """Asks for the scores of pairs of texts; the weighted means are not asked for, but reckoned here."""

    path = "/score"

    def __init__(self, settings: EncodingSettings) -> None:
        self._settings = settings

    def body(self, elements: list[bytes]) -> bytes:
        """Return a request for the scores of pairs."""
        return wire.body("pairs", elements, {"max_length": self._settings.max_length})

    def read(self, answer: Any, count: int) -> tuple[PairScores, int]:
        """Read the scores of so many pairs, and how many texts were cut."""
        return wire.read_scores(answer, count)


class RerankCall:
    """Asks how well documents answer a query, which is read once a request."""

    path = "/rerank"

    def __init__(self, query: str, mode: str) -> None:
        self._fields = {"query": without_lone_surrogates(query), "mode": mode}

    def body(self, elements: list[bytes]) -> bytes:
        """Return a request for the scores of documents."""
        return wire.body("texts", elements, self._fields)

    def read(self, answer: Any, count: int) -> list[float]:
        """Read the scores of so many documents, in the order of these."""
        return wire.read_ranking(answer, count)


async def ask(connection: AsyncConnection, call: Call[T], elements: list[bytes]) -> T:
    """Have the answer to a request of a call."""
    return await connection.ask("POST", call.path, call.body(elements), lambda answer: call.read(answer, len(elements)))


def joined_scores(of_requests: Iterable[tuple[PairScores, int]]) -> tuple[PairScores, int]:
    """Join scores and counts of cut texts."""
    joined = PairScores([], [], [])
    cut = 0
    for scores, cut_here in of_requests:
        joined.dense.extend(scores.dense)
        joined.sparse.extend(scores.sparse)
        joined.colbert.extend(scores.colbert)
        cut += cut_here
    return joined, cut
