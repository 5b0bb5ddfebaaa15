"""A cross-encoder that a server of `trivec serve --reranker` has: `M3Reranker`, but for who computes.

Loads no engine.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from itertools import groupby
from typing import Any, NoReturn

from trivec.checkpoint.pair_tokenizer import TextPair
from trivec.checkpoint.tokenizer import without_lone_surrogates
from trivec.encoding import windows_of
from trivec.errors import ServerError, TrivecError
from trivec.model.http_connection import PATIENCE_AT_FIRST, Connection, Endpoint
from trivec.model.m3_reranker import M3Reranker, ScoringSettings
from trivec.model.relevance import sigmoid
from trivec.model.remote import refuse_servers_own
from trivec.support.handles import LoadArguments
from trivec.support.progress import progress_bar


class RemoteReranker(M3Reranker):
    """What `M3Reranker.load` returns for a URL.

    Attributes:
        endpoint: Where the server is.
    """

    def __init__(self, arguments: LoadArguments) -> None:
        """Ask the server what it has.

        Raises:
            ValueError: The URL cannot be one, or an argument is given that the server decides.
            ServerError: The server cannot be reached, refuses the key, or has no cross-encoder.
        """
        refuse_servers_own(arguments)
        if arguments.max_length is not None:
            raise ValueError(f"max_length={arguments.max_length} cannot be given with a URL: the server decides")
        self.endpoint = Endpoint.of(str(arguments.name_or_path), arguments.api_key)
        self.name = url = self.endpoint.url
        self.closed = False
        self._arguments = arguments
        self._connection = Connection(self.endpoint)
        try:
            info = self._connection.ask("GET", "/info", patience=PATIENCE_AT_FIRST)
            try:
                has = info["trivec"]["reranker"]
                self._most = int(info["trivec"]["limits"]["max_texts"])
                served = None if has is None else (str(has["name"]), str(has["precision"]), int(has["max_length"]))
            except (KeyError, TypeError, ValueError):
                raise ServerError(
                    f"{url} does not say what it serves: is it a trivec serve, of this version?"
                ) from None
            if served is None:
                raise ServerError(f"{url} has no cross-encoder: start it with trivec serve --reranker MODEL")
            self._serves, self.precision, self.max_length = served
        except BaseException:
            self._connection.close()
            raise

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("checkpoint", "config", "fingerprint", "tokenizer"):
            raise AttributeError(f"{self.endpoint.url} has the model's files, so there is no {name!r} here")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<M3Reranker {self.name!r}, which serves {self._serves!r}: {self._state}>"

    @property
    def _length_limit(self) -> int:
        return self.max_length

    def scheduler(self, **_options: Any) -> NoReturn:
        """Refuse: the queue is the server's."""
        raise TrivecError(f"{self.name} computes, and has the queue: load the model itself to put one before it")

    def close(self) -> None:
        """Close the connections; scoring afterwards is an error."""
        self.closed = True
        self._connection.close()

    def _windows(
        self, pairs: Iterable[TextPair], total: int | None, settings: ScoringSettings
    ) -> Generator[tuple[list[float], int], None, None]:
        """Yield the scores of one window of pairs after another, and how many of these were cut."""
        self._refuse_if_closed()
        for name, given, own in (
            ("max_length", settings.encoding.max_length, self.max_length),
            ("query_max_length", settings.query_max_length, None),
        ):
            if given != own:
                raise ValueError(f"{name}={given} cannot be given with a URL: the server decides")
        with progress_bar(total, "Scoring", "pairs", settings.encoding.show_progress) as progress:
            for window, _, failure in windows_of(pairs, token_vectors=False):
                for query, passages in self._requests(window):
                    scores, cut = self._scores(query, passages)
                    progress.update(len(passages))
                    yield sigmoid(scores) if settings.normalize else scores, cut
                if failure is not None:
                    raise failure

    def _requests(self, pairs: list[TextPair]) -> Iterator[tuple[str, list[str]]]:
        """Yield a query and the passages of a request, in the order of the pairs."""
        for query, of_query in groupby(pairs, key=lambda pair: pair.query):
            passages = [without_lone_surrogates(pair.passage) for pair in of_query]
            for start in range(0, len(passages), self._most):
                yield without_lone_surrogates(query), passages[start : start + self._most]

    def _scores(self, query: str, passages: list[str]) -> tuple[list[float], int]:
        body = {"query": query, "documents": passages, "mode": "cross-encoder", "raw_scores": True}
        answer = self._connection.ask("POST", "/rerank", json.dumps(body, ensure_ascii=False).encode())
        try:
            found = {int(one["index"]): float(one["relevance_score"]) for one in answer["results"]}
            return [found[i] for i in range(len(passages))], int(answer["usage"]["truncated"])
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"the server's answer is not what was asked for ({error!s:.100})") from None
