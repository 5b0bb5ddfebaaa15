"""A model that a server of `trivec serve` has: `M3Model`, but for who computes.

Texts go there in requests of a window each, some at once where there are several, and the vectors come back bit by bit
as they were computed. Loads no engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NoReturn, TypeVar

from trivec.encoding import EncodingSettings
from trivec.errors import TrivecError
from trivec.model.calls import Call, EncodeCall, RerankCall, ScoreCall, ask, joined_scores
from trivec.model.encoding_arguments import within_limit
from trivec.model.http_connection import PATIENCE_AT_FIRST, AsyncConnection, Connection, Endpoint
from trivec.model.in_order import AT_ONCE
from trivec.model.loop_thread import Begun, LoopThread
from trivec.model.m3_model import M3Model
from trivec.model.remote_tokenizer import RemoteTokenizer
from trivec.model.served import Gathering, Served
from trivec.support.handles import LoadArguments
from trivec.support.progress import progress_bar
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import PairScores
from trivec.vectors.sparse import SparseMatrix, weights_by_id

T = TypeVar("T")

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


def refuse_servers_own(arguments: LoadArguments) -> None:
    """Make sure that nothing is asked for that the server decides.

    Raises:
        ValueError: Something is.
    """
    for name, default in _SERVERS_OWN.items():
        if (given := getattr(arguments, name)) != default:
            given = ",".join(map(str, given)) if isinstance(given, (list, tuple)) else given
            raise ValueError(f"{name}={given!r:.60} cannot be given with a URL: the server decides")


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
        refuse_servers_own(arguments)
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
        return f"<M3Model {self.name!r}, which serves {self.served.name!r}: {sizes}; {self._state}>"

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
        requests = self.gathering(settings).requests(texts)
        with (
            progress_bar(total, "Encoding", "texts", settings.show_progress) as progress,
            closing(self._answers(EncodeCall(self.served, settings), requests)) as answers,
        ):
            for embeddings in answers:
                yield embeddings
                progress.update(len(embeddings))

    def _pair_scores(self, pairs: list[tuple[str, str]], settings: EncodingSettings) -> tuple[PairScores, int]:
        requests = self.gathering(settings).requests(pairs)
        with closing(self._answers(ScoreCall(settings), requests)) as answers:
            return joined_scores(answers)

    def relevance(self, query: str, documents: Iterable[str], mode: str) -> list[float]:
        """Return how well each document answers a query, by a mode of `POST /rerank`; nothing but scores comes back."""
        with closing(self._answers(RerankCall(query, mode), self.gathering_documents().requests(documents))) as answers:
            return [score for scores in answers for score in scores]

    def gathering_documents(self) -> Gathering:
        """Return what gathers documents that are ranked into requests."""
        return Gathering(self.served, self.name, self.max_length, token_vectors=False)

    def gathering(self, settings: EncodingSettings) -> Gathering:
        """Return what gathers texts or pairs into requests."""
        return Gathering(self.served, self.name, settings.max_length, settings.heads.colbert)

    def _answers(self, call: Call[T], requests: Iterator[tuple[list[bytes], bool]]) -> Generator[T, None, None]:
        """Yield the answers to the requests of a call, in order; several are under way at once."""
        self._refuse_if_closed()
        elements, last = next(requests)
        if last:  # a query, or a few texts: nothing to be ahead of
            if elements:
                yield call.read(self._connection.ask("POST", call.path, call.body(elements)), len(elements))
            return
        connection = AsyncConnection(self.endpoint)
        under_way: deque[Begun[T]] = deque()
        failure = None
        with LoopThread(at_end=connection.close) as loop:
            while True:
                if elements:
                    under_way.append(loop.begin(partial(ask, connection, call, elements)))
                if last:
                    break
                if len(under_way) == AT_ONCE:
                    yield under_way.popleft().result()
                    loop.refuse_in_child()
                try:
                    elements, last = next(requests)
                except Exception as error:  # the caller's iterable may raise anything: what came before is answered
                    failure = error
                    break
            while under_way:
                yield under_way.popleft().result()
                loop.refuse_in_child()
        if failure is not None:
            raise failure
