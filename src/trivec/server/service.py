"""What the routes ask: a model that may still be loading, its queue, and the limits. Knows no route and no path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from starlette.requests import ClientDisconnect, Request

from trivec.checkpoint.tokenizer import TokenizedTexts
from trivec.errors import TrivecError
from trivec.model import M3Model
from trivec.model.m3_reranker import M3Reranker
from trivec.scheduling.delivery import Deliveries
from trivec.scheduling.requests import Answer, OverloadedError, StoppedError, guessed_tokens
from trivec.server.bodies import BodyReader
from trivec.server.errors import RequestError
from trivec.server.metrics import Metrics
from trivec.server.protocol import LOST
from trivec.server.settings import ServerSettings
from trivec.server.truncation import Truncate, tokenized
from trivec.vectors.embeddings import M3Embeddings

if TYPE_CHECKING:
    from trivec.milvus import M3Collection
    from trivec.scheduling.scheduler import Scheduler

T = TypeVar("T")

State = Literal["loading", "ready", "stopping", "failed"]

# Of token vectors, 4 KB a token at full size, a request's are all in memory until they are sent.
MOST_COLBERT_TOKENS = 65_536


class Service:
    """One model and its queue, behind the routes of a server.

    Attributes:
        settings: The server's.
        bodies: Reads the bodies of requests.
        metrics: What is counted.
        collection: The documents that `/search` searches, once the model is loaded; None: there are none.
        reranker: The cross-encoder, whose scoring goes through a queue of its own; None: there is none.
        state: Whether requests are taken.
    """

    def __init__(self, settings: ServerSettings, on_failure: Callable[[BaseException], None]) -> None:
        """Begin without a model; `on_failure` is told, in a thread of the queue's, when computing fails for good."""
        self.settings = settings
        self.bodies = BodyReader(settings.max_body)
        self.metrics = Metrics(lambda: self.waiting_tokens)
        self.collection: M3Collection | None = None
        self.reranker: M3Reranker | None = None
        self.state: State = "loading"
        self._model: M3Model | None = None
        self._scheduler: Scheduler | None = None
        self._of_reranker: Scheduler | None = None
        self._on_failure = on_failure
        self._deliveries: Deliveries | None = None

    def take(self, model: M3Model, collection: M3Collection | None, reranker: M3Reranker | None = None) -> None:
        """Serve this model from now on. Blocks while a first batch is computed, so that no request waits for that."""
        scheduler = model.scheduler(**self._queue_options())
        heads = {"return_sparse": model.has_sparse, "return_colbert_vecs": model.has_colbert}
        scheduler.submit(["warm"], model.encoding_settings(**heads)).result()
        self._scheduler = scheduler
        self._model = model.behind(scheduler)
        if reranker is not None:
            self._of_reranker = reranker.scheduler(**self._queue_options())
            self.reranker = reranker.behind(self._of_reranker)
            self.reranker.relevance([("warm", "warm")])
        if collection is not None:
            collection.use_model(self._model)
        self.collection = collection
        if self.state == "loading":
            self.state = "ready"

    def _queue_options(self) -> dict[str, Any]:
        return {
            "max_queue_tokens": self.settings.max_queue_tokens,
            "on_batch": self.metrics.batch,
            "on_failure": self._failed,
        }

    def stop(self) -> None:
        """Compute what was admitted, within the time of the settings, and close everything. Blocks."""
        for scheduler in self._schedulers():
            scheduler.stop(self.settings.grace if self.state == "stopping" else 0)
        if self.collection is not None:
            self.collection.close()
        if self._model is not None:
            self._model.close()
        if self.reranker is not None:
            self.reranker.close()

    def _failed(self, error: BaseException) -> None:
        self.state = "failed"
        self._on_failure(error)

    def require_ready(self) -> None:
        """Make sure that requests are taken.

        Raises:
            RequestError: The model is still loading, or the server is about to stop.
        """
        if self.state != "ready":
            raise RequestError("Unhealthy", self.state, retry_after=1)

    @property
    def model(self) -> M3Model:
        """The model, whose encoding goes through the queue.

        Raises:
            RequestError: As of `require_ready`.
        """
        self.require_ready()
        if self._model is None:
            raise RequestError("Unhealthy", "loading", retry_after=1)
        return self._model

    @property
    def waiting_tokens(self) -> int:
        """Tokens that were admitted and are not computed."""
        return sum(scheduler.waiting_tokens for scheduler in self._schedulers())

    def _schedulers(self) -> list[Scheduler]:
        return [scheduler for scheduler in (self._scheduler, self._of_reranker) if scheduler is not None]

    @property
    def max_length(self) -> int:
        """Most tokens of a text that are read."""
        return self.model.max_length

    async def encode(
        self,
        request: Request,
        texts: Sequence[str],
        kinds: Collection[str],
        *,
        normalize: bool = True,
        mcls: int | None = None,
        max_length: int | None = None,
        truncate: Truncate = "end",
    ) -> tuple[M3Embeddings, int]:
        """Return the vectors of texts, and how many tokens they have.

        Args:
            request: Whose they are: if the client goes away, its texts leave the queue.
            texts: As many as the settings allow.
            kinds: Which vectors: "dense", "sparse", "colbert".
            normalize: Scale dense and token vectors to length 1.
            mcls: As of `M3Model.encode`.
            max_length: Most tokens of a text that are read; None: as many as the model does here.
            truncate: What a longer text loses; "no" refuses it.

        Raises:
            RequestError: The texts, or what is asked of them, go beyond a limit; or they cannot be computed.
        """
        model = self.model
        if len(texts) > self.settings.max_texts:
            raise RequestError(
                "Validation", f"{len(texts):,} texts are more than the {self.settings.max_texts:,} of a request"
            )
        try:
            settings = model.encoding_settings(
                max_length=max_length,
                return_dense="dense" in kinds,
                return_sparse="sparse" in kinds,
                return_colbert_vecs="colbert" in kinds,
                normalize=normalize,
                mcls=mcls,
            )
        except (TypeError, ValueError, TrivecError) as error:
            raise RequestError("Validation", str(error)) from error
        if settings.max_length > model.max_length:
            limit = model.max_length
            raise RequestError("Validation", f"max_length={max_length} is above this server's {limit}")
        if "colbert" in kinds and guessed_tokens(texts, settings.max_length) > MOST_COLBERT_TOKENS:
            raise RequestError(
                "TooLarge", f"token vectors of more than {MOST_COLBERT_TOKENS:,} tokens at once: send fewer texts"
            )
        given: Sequence[str] | TokenizedTexts = texts
        if truncate != "end":
            given = await self.in_thread(lambda: tokenized(texts, model.tokenizer, settings.max_length, truncate))
        answer = self._submit(self._scheduler, lambda scheduler: scheduler.submit(given, settings))
        return await self._answered(request, answer), answer.tokens

    async def relevance(
        self, request: Request, query: str, documents: Sequence[str], *, normalize: bool, truncate: Truncate = "end"
    ) -> tuple[list[float], int, int]:
        """Return the cross-encoder's scores of documents for a query, how many tokens the pairs have, how many are cut.

        Args:
            request: Whose they are: if the client goes away, its pairs leave the queue.
            query: The query.
            documents: As many as the settings allow.
            normalize: Give scores between 0 and 1 instead of logits.
            truncate: "end", or "no" to refuse a pair that is too long.

        Raises:
            RequestError: There is no cross-encoder, or the pairs go beyond a limit or cannot be computed.
        """
        self.require_ready()
        reranker = self.reranker
        if reranker is None:
            raise RequestError("Validation", "this server has no cross-encoder: start it with --reranker", param="mode")
        if truncate == "start":
            raise RequestError("Validation", "a cross-encoder cuts the end of texts: leave truncation_direction out")
        settings = reranker.scoring_settings(normalize)
        pairs = [(query, document) for document in documents]
        given = await self.in_thread(lambda: reranker.tokenized(pairs, settings))
        if truncate == "no" and given.cut:
            longest = f"more than {settings.encoding.max_length:,} tokens"
            raise RequestError("Validation", f"query and text {min(given.cut)} have {longest} together: shorten them")
        answer = self._submit(self._of_reranker, lambda scheduler: scheduler.submit(given, settings.encoding))
        hidden = await self._answered(request, answer)
        return await self.in_thread(lambda: reranker.scores_of(hidden, settings)), answer.tokens, len(given.cut)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what takes a moment beside the event loop.

        Raises:
            RequestError: It cannot be done.
        """
        try:
            return await asyncio.to_thread(work)
        except (OverloadedError, StoppedError, TrivecError) as error:
            raise refusal(error) from error

    def _submit(self, scheduler: Scheduler | None, submit: Callable[[Scheduler], Answer]) -> Answer:
        if scheduler is None:
            raise RequestError("Unhealthy", "loading", retry_after=1)
        try:
            return submit(scheduler)
        except TrivecError as error:
            raise refusal(error) from error

    async def _answered(self, request: Request, answer: Answer) -> M3Embeddings:
        """Wait for an answer, unless the client goes away before."""
        if self._deliveries is None:
            self._deliveries = Deliveries(asyncio.get_running_loop())
        computed = self._deliveries.awaited(answer)
        lost: asyncio.Future[None] = request.scope[LOST]

        def gone(_: object) -> None:
            if not computed.done():
                computed.set_exception(ClientDisconnect())

        lost.add_done_callback(gone)  # at once, if it is lost already
        try:
            embeddings = await computed
        except TrivecError as error:
            raise refusal(error) from error
        finally:
            lost.remove_done_callback(gone)
        self.metrics.tokenizing.observe(answer.tokenizing_seconds)
        self.metrics.queueing.observe(answer.queue_seconds)
        self.metrics.computing.observe(answer.computing_seconds)
        return embeddings

    async def counted(self, method: str, answered: Awaitable[T]) -> T:
        """Wait for an answer and note that there was one, and how long it took."""
        self.metrics.requests.labels(method).inc()
        began = time.monotonic()
        done = await answered
        self.metrics.duration.observe(time.monotonic() - began)
        self.metrics.successes.labels(method).inc()
        return done


def in_groups(texts: Sequence[str], max_length: int) -> Iterator[Sequence[str]]:
    """Cut texts into groups small enough for the token vectors of a group to be in memory together."""
    start = held = 0
    for i, text in enumerate(texts):
        tokens = guessed_tokens([text], max_length)
        if i > start and held + tokens > MOST_COLBERT_TOKENS // 2:
            yield texts[start:i]
            start, held = i, 0
        held += tokens
    yield texts[start:]


def refusal(error: TrivecError) -> RequestError:
    """Return what a client is told of an error of the library's."""
    if isinstance(error, OverloadedError):
        return RequestError("Overloaded", str(error), retry_after=error.retry_after)
    if isinstance(error, StoppedError):
        return RequestError("Unhealthy", str(error), retry_after=1)
    return RequestError("Backend", str(error))
