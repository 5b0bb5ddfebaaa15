"""A model that a server of `trivec serve` has: `M3Model`, but for who computes.

Texts go there in requests of a window each, some at once where there are several, and the vectors come back bit by bit
as they were computed. Loads no engine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar

from trivec.encoding import EncodingSettings
from trivec.errors import TrivecError
from trivec.model.http_connection import PATIENCE_AT_FIRST, AsyncConnection, Connection, Endpoint
from trivec.model.loop_thread import Begun, LoopThread
from trivec.model.m3_model import M3Model, within_limit
from trivec.model.remote_tokenizer import RemoteTokenizer
from trivec.model.served import Gathering, Part, Served
from trivec.model.wire import encode_fields, read_embeddings, read_scores
from trivec.support.handles import LoadArguments
from trivec.support.progress import progress_bar
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import PairScores
from trivec.vectors.sparse import SparseMatrix, weights_by_id

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# Requests of one call that are under way at once: while the server computes one, the next has arrived, and a third is
# on its way or being read.
AT_ONCE = 3
# What the server decides, and what each is where nothing was asked for.
_SERVERS_OWN: dict[str, Any] = {
    "device": None,
    "engine": "auto",
    "precision": "auto",
    "cache_dir": None,
    "revision": None,
    "local_files_only": False,
    "num_threads": None,
    "use_cache": True,
}


class RemoteModel(M3Model):
    """What `M3Model.load` returns for a URL.

    Attributes:
        served: What the server says of its model.
        endpoint: Where the server is.
    """

    tokenizer: RemoteTokenizer

    def __init__(self, arguments: LoadArguments) -> None:
        """Ask the server what it has.

        Raises:
            TypeError: The key is no str.
            ValueError: The URL cannot be one, or an argument is given that the server decides.
            ServerError: The server cannot be reached, or refuses the key.
        """
        for name, default in _SERVERS_OWN.items():
            if (given := getattr(arguments, name)) != default:
                raise ValueError(f"{name}={given!r:.60} cannot be given with a URL: the server decides")
        self.endpoint = Endpoint.of(str(arguments.name_or_path), arguments.api_key)
        self.name = url = self.endpoint.url
        self.closed = False
        self._arguments = arguments
        self._connection = Connection(self.endpoint)
        self._fingerprint = ""
        try:
            self.served = Served.read(self._connection.ask("GET", "/info", patience=PATIENCE_AT_FIRST), url)
            length = arguments.max_length
            self.max_length = (
                self.served.max_length
                if length is None
                else within_limit("max_length", length, self.served.length_limit)
            )
        except BaseException:
            self._connection.close()
            raise
        self.precision = self.served.precision
        self.tokenizer = RemoteTokenizer(self._connection, url, self.served.dim["sparse"], self.served.max_texts)

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("checkpoint", "config"):
            raise AttributeError(f"{self.endpoint.url} has the model's files, so there is no {name!r} here")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{kind} {size}" for kind, size in self.dim.items())
        state = "closed" if self.closed else f"{self.precision}, {self.max_length} tokens"
        return f"<M3Model {self.name!r}, which serves {self.served.name!r}: {sizes}; {state}>"

    @property
    def dim(self) -> dict[str, int]:
        """As `M3Model.dim`."""
        return dict(self.served.dim)

    @property
    def fingerprint(self) -> str:
        """As `M3Model.fingerprint`, which the server reckons the first time."""
        if not self._fingerprint:
            self._refuse_if_closed()
            answer = self._connection.ask("GET", "/fingerprint")
            self._fingerprint = str(answer["fingerprint"])
        return self._fingerprint

    @property
    def own_fusion_weights(self) -> tuple[float, float, float] | None:
        """As `M3Model.own_fusion_weights`."""
        return self.served.fusion_weights

    @property
    def has_sparse(self) -> bool:
        """Whether the server gives lexical weights."""
        return self.served.has_sparse

    @property
    def has_colbert(self) -> bool:
        """Whether the server gives token vectors."""
        return self.served.has_colbert

    def named_weights(self, sparse: SparseMatrix) -> list[tuple[str, float]]:
        """As `M3Model.named_weights`."""
        self.tokenizer.learn_texts(weights_by_id(sparse))
        return super().named_weights(sparse)

    def scheduler(self, **_options: Any) -> NoReturn:
        """Refuse: the queue is the server's."""
        raise TrivecError(f"{self.name} computes, and has the queue: load the model itself to put one before it")

    def close(self) -> None:
        """Close the connections; encoding afterwards is an error."""
        self.closed = True
        self._connection.close()

    @property
    def _place(self) -> str:
        return f"the model that {self.name} serves"

    @property
    def _length_limit(self) -> int:
        return self.served.length_limit

    def _windows(
        self, texts: Iterable[str], total: int | None, settings: EncodingSettings
    ) -> Generator[M3Embeddings, None, None]:
        parts = self.gathering(settings).parts(texts)
        with (
            progress_bar(total, "Encoding", "texts", settings.show_progress) as progress,
            closing(self._answers(EncodeRequest(self, settings), parts)) as answers,
        ):
            for embeddings in answers:
                yield embeddings
                progress.update(len(embeddings))

    def _pair_scores(self, pairs: list[tuple[str, str]], settings: EncodingSettings) -> tuple[PairScores, int]:
        parts = self.gathering(settings).parts(pairs)
        with closing(self._answers(ScoreRequest(settings), parts)) as answers:
            return joined_scores(answers)

    def gathering(self, settings: EncodingSettings) -> Gathering:
        """Return what gathers texts or pairs into requests."""
        return Gathering(self.served, self.name, settings.max_length, settings.heads.colbert)

    def _answers(self, request: Asked[T], parts: Iterator[Part]) -> Generator[T, None, None]:
        """Yield the answers to a call's requests, in order; several are under way at once."""
        self._refuse_if_closed()
        part = next(parts)
        if part.last:  # a query, or a few texts: nothing to be ahead of
            if part.elements:
                yield request.read(part, self._connection.ask("POST", request.path, request.body(part)))
            return
        connection = AsyncConnection(self.endpoint)
        under_way: deque[Begun[T]] = deque()
        failure = None
        with LoopThread(at_end=connection.close) as loop:
            while part.elements:
                under_way.append(loop.begin(partial(ask, connection, request, part)))
                if len(under_way) == AT_ONCE:
                    yield under_way.popleft().result()
                    loop.refuse_in_child()
                try:
                    part = Part([], last=True) if part.last else next(parts)
                except Exception as error:  # the caller's iterable may raise anything: what came before is answered
                    failure = error
                    break
            while under_way:
                yield under_way.popleft().result()
                loop.refuse_in_child()
        if failure is not None:
            raise failure

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise TrivecError("the model is closed: load it again")


class Asked(Protocol[T_co]):
    """What the requests of a call ask for."""

    path: str

    def body(self, part: Part) -> bytes:
        """Return the body of a request."""
        ...

    def read(self, part: Part, answer: Any) -> T_co:
        """Read what it is answered with."""
        ...


class EncodeRequest:
    """Asks for the vectors of texts."""

    path = "/encode"

    def __init__(self, model: RemoteModel, settings: EncodingSettings) -> None:
        self._dim, self._settings = model.served.dim, settings

    def body(self, part: Part) -> bytes:
        """Return the body of a request."""
        return part.body("inputs", **encode_fields(self._settings))

    def read(self, part: Part, answer: Any) -> M3Embeddings:
        """Read the vectors."""
        return read_embeddings(answer, len(part.elements), self._settings, self._dim)


class ScoreRequest:
    """Asks for the scores of pairs of texts; the weighted means are reckoned here, in this model's way."""

    path = "/score"

    def __init__(self, settings: EncodingSettings) -> None:
        self._settings = settings

    def body(self, part: Part) -> bytes:
        """Return the body of a request."""
        return part.body("pairs", max_length=self._settings.max_length)

    def read(self, part: Part, answer: Any) -> tuple[PairScores, int]:
        """Read the scores, and how many texts were cut."""
        return read_scores(answer, len(part.elements))


async def ask(connection: AsyncConnection, request: Asked[T], part: Part) -> T:
    """Have the answer to a request of a call."""
    answer = await connection.ask("POST", request.path, request.body(part))
    return await asyncio.to_thread(request.read, part, answer)


def joined_scores(of_parts: Iterable[tuple[PairScores, int]]) -> tuple[PairScores, int]:
    """Join scores and counts of cut texts."""
    joined = PairScores([], [], [])
    cut = 0
    for scores, cut_here in of_parts:
        joined.dense.extend(scores.dense)
        joined.sparse.extend(scores.sparse)
        joined.colbert.extend(scores.colbert)
        cut += cut_here
    return joined, cut
