"""One queue before one engine, for programs that many ask at once: short requests first, long ones batch by batch.

Two threads work beside the callers: one tokenizes, one computes. A batch is made the moment the engine is free, out of
whatever waits then. Requests that fit into a batch are computed together, oldest first; longer ones take turns, a batch
at a time, whenever no short one waits, or when they have waited too long. Knows nothing of networks.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from trivec.checkpoint.tokenizer import M3Tokenizer, TokenizedTexts
from trivec.encoding import EncodingSettings, empty_embeddings, encode_window, join_windows, tokenize_window, windows_of
from trivec.engines import Engine
from trivec.errors import TrivecError
from trivec.scheduling.joined import JoinedRequests
from trivec.scheduling.requests import Answer, OverloadedError, Request, StoppedError, guessed_tokens, resolve
from trivec.scheduling.together import part_of_texts

T = TypeVar("T")

DEFAULT_QUEUE_TOKENS = 1_000_000
# A long request that has been passed over for so many seconds gets a batch although short ones wait.
_PATIENCE = 1.0
# Share of the newest batch in the measured rate.
_NEWEST = 0.1
# So many batches of short requests are computed in one go: out of more texts come batches of more alike lengths, and
# what is just beyond one batch makes no small one.
_TOGETHER = 2
# So many requests that do not go into a batch are looked at before it is computed without others.
_LOOKED_AT = 64
_STOPPING = "the program that computes is stopping: ask again later"


class Scheduler:
    """Takes requests from any thread and has one engine compute them.

    The vectors are those of `M3Model.encode` for the same texts: the same bits where a request is computed alone,
    within 1e-5 in float32 where it shared a batch.

    Args:
        tokenizer: The model's.
        engine: Gives the model's engine, each time it is used.
        dims: Of the model: "dense" and "sparse".
        max_queue_tokens: How many tokens may wait. A request beyond that is refused, unless nothing waits.
        on_batch: Told of every batch: its tokens and texts, and the seconds it took.
        on_failure: Told of an error that is none of a request's; nothing is computed after it.
    """

    def __init__(
        self,
        tokenizer: M3Tokenizer,
        engine: Callable[[], Engine],
        dims: dict[str, int],
        *,
        max_queue_tokens: int = DEFAULT_QUEUE_TOKENS,
        on_batch: Callable[[int, int, float], None] = lambda _tokens, _texts, _seconds: None,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        self.max_queue_tokens = max_queue_tokens
        self.failure: BaseException | None = None
        self._tokenizer = tokenizer
        self._engine = engine
        self._dims = dims
        self._on_batch, self._on_failure = on_batch, on_failure
        self._lock = threading.Lock()  # guards the four below
        self._waiting = 0
        self._rate = 0.0  # tokens a second, 0: not measured
        self._open: set[Request] = set()
        self._stopping = False
        self._submitted: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._tokenized: queue.SimpleQueue[tuple[Request, TokenizedTexts] | None] = queue.SimpleQueue()
        self._short: deque[Request] = deque()
        self._long: deque[Request] = deque()
        self._threads = [
            threading.Thread(target=self._run, args=[work], name=f"trivec-{name}", daemon=True)
            for name, work in (("tokenize", self._tokenize), ("compute", self._compute))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tokens that were admitted and are not computed."""
        return self._waiting

    @property
    def rate(self) -> float:
        """Tokens a second while computing, as measured; 0 before the first batch."""
        return self._rate

    def submit(self, texts: Sequence[str] | TokenizedTexts, settings: EncodingSettings) -> Answer:
        """Put a request into the queue.

        Args:
            texts: The texts, as strings or tokenized.
            settings: How they are encoded; its `max_length` is for strings.

        Raises:
            OverloadedError: The queue is full.
            StoppedError: The scheduler was stopped, or failed.
        """
        answer = Answer()
        if isinstance(texts, TokenizedTexts):
            windows = [[""]] if texts.token_ids else []
            answer.tokens = sum(map(len, texts.token_ids))
        else:
            windows = [window for window, _, _ in windows_of(texts, settings.heads.colbert) if window]
            answer.tokens = guessed_tokens(texts, settings.max_length)
        request = Request(settings, answer, windows)
        with self._lock:
            if self.failure is not None:
                raise StoppedError(f"computing failed: {self.failure!s:.300}")
            if self._stopping:
                raise StoppedError(_STOPPING)
            if self._waiting and self._waiting + request.held > self.max_queue_tokens:
                raise OverloadedError(self._waiting, self.max_queue_tokens, self._seconds_for(request.held))
            self._waiting += request.held
            self._open.add(request)
        answer.add_done_callback(lambda _: self._forget(request))
        if not windows:
            resolve(answer, empty_embeddings(settings.heads, self._dims["dense"], self._dims["sparse"]))
        elif isinstance(texts, TokenizedTexts):
            request.windows.clear()
            self._tokenized.put((request, texts))
        else:
            self._submitted.put(request)
        return answer

    def stop(self, grace: float = 0.0) -> None:
        """Take no more requests, compute those that were admitted for at most `grace` seconds, fail what is left."""
        end = time.monotonic() + grace
        with self._lock:
            self._stopping = True
        while self._open and self.failure is None and time.monotonic() < end:
            time.sleep(0.01)
        self._fail_all(StoppedError(_STOPPING))
        self._submitted.put(None)
        self._tokenized.put(None)
        for thread in self._threads:
            thread.join()

    def _seconds_for(self, more: int) -> float:
        """Seconds until `more` tokens have room in the queue, at least one."""
        too_many = self._waiting + min(more, self.max_queue_tokens) - self.max_queue_tokens
        return min(3600.0, max(1.0, too_many / self._rate)) if self._rate else 1.0

    def _forget(self, request: Request) -> None:
        with self._lock:
            self._open.discard(request)
            self._waiting -= request.held
            request.held = 0

    def _hold(self, request: Request, tokens: int) -> None:
        """Note that a request fills the queue by so many tokens more, or fewer."""
        with self._lock:
            if request in self._open:
                self._waiting += tokens
                request.held += tokens

    def _fail_all(self, error: BaseException) -> None:
        for request in list(self._open):
            resolve(request.answer, error)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            with self._lock:
                self.failure = error
            self._fail_all(StoppedError(f"computing failed: {error!s:.300}"))
            self._on_failure(error)

    # What follows runs in the thread that tokenizes.

    def _tokenize(self) -> None:
        long: deque[Request] = deque()
        while True:
            short: list[Request] = []
            for request in _drained(self._submitted, wait=not long):
                if request is None:
                    return
                (short if len(request.windows) == 1 and request.held <= self._batch_tokens() else long).append(request)
            for length in dict.fromkeys(request.length for request in short):
                self._tokenize_next([request for request in short if request.length == length])
            if long:  # however many short ones there are: a piece of it takes no longer than they do
                request = long.popleft()
                self._tokenize_next([request])
                if request.windows:  # a window that is begun is finished first: then there is something to compute
                    (long.appendleft if request.begun else long.append)(request)

    def _tokenize_next(self, requests: list[Request]) -> None:
        """Tokenize the next piece of each request, all in one call of the tokenizer."""
        for request in requests:
            if request.answer.done():  # cancelled
                request.windows.clear()
        requests = [request for request in requests if request.windows]
        if not requests:
            return
        pieces = [request.next_piece() for request in requests]
        began = time.monotonic()
        try:
            texts = [text for piece in pieces for text in piece]
            tokenized = tokenize_window(texts, self._tokenizer, *requests[0].length)
        except Exception as error:  # whatever a text has the tokenizer do, it is its sender's
            if len(requests) == 1:
                requests[0].windows.clear()
                resolve(requests[0].answer, error)
            else:  # whose text it was shows when each is tokenized by itself
                for request in requests:
                    self._tokenize_next([request])
            return
        now = time.monotonic()
        start = 0
        for request, piece in zip(requests, pieces, strict=True):
            part = tokenized if len(requests) == 1 else part_of_texts(tokenized, start, start + len(piece))
            start += len(piece)
            request.answer.tokenizing_seconds += now - began
            more = sum(map(len, part.token_ids)) - guessed_tokens(piece, request.settings.max_length)
            request.answer.tokens += more
            self._hold(request, more)
            if (window := request.take_piece(part)) is not None:
                self._tokenized.put((request, window))

    # What follows runs in the thread that computes.

    def _compute(self) -> None:
        indulged = False  # whether the last batch was one of a long request although short ones waited
        while True:
            for tokenized in _drained(self._tokenized, wait=not (self._short or self._long)):
                if tokenized is None:
                    return
                self._take(*tokenized)
            long = self._long[0] if self._long else None
            # Where a batch takes seconds, some long one is always out of patience: it gets every other batch at most.
            impatient = long is not None and time.monotonic() - long.since > _PATIENCE and not indulged
            indulged = bool(self._short) and impatient
            if long is not None and (impatient or not self._short):
                self._long.popleft()
                self._compute_step(long)
            elif self._short:
                self._compute_together(self._next_together())

    def _take(self, request: Request, window: TokenizedTexts) -> None:
        waits = bool(request.ready) or request.steps is not None
        request.ready.append(window)
        if not waits:
            request.since = time.monotonic()
            few = request.missing == 1 and not request.parts and request.answer.tokens <= self._batch_tokens()
            (self._short if few else self._long).append(request)

    def _next_together(self) -> list[Request]:
        """Take short requests, the oldest first, that make a batch or two."""
        chosen: list[Request] = []
        passed_over: list[Request] = []
        tokens = 0
        while self._short and len(passed_over) < _LOOKED_AT:
            request = self._short.popleft()
            if request.answer.done():  # cancelled
                continue
            fits = not chosen or tokens + request.answer.tokens <= _TOGETHER * self._batch_tokens()
            if fits and (not chosen or request.kind == chosen[0].kind):
                chosen.append(request)
                tokens += request.answer.tokens
            else:
                passed_over.append(request)
        self._short.extendleft(reversed(passed_over))
        return chosen

    def _compute_together(self, requests: list[Request]) -> None:
        """Compute short requests as one window; each of one text is answered as soon as its batch is done."""
        if not requests:
            return
        joined = JoinedRequests(requests)
        steps = encode_window(joined.texts, self._engine(), joined.heads, requests[0].settings.max_batch_tokens)
        try:
            joined.answer_batch(*next(steps))
            while not joined.answered:  # then nobody waits for the vectors of all in one piece
                joined.answer_batch(*next(steps))
        except StopIteration as done:
            joined.answer_all(done.value)
        except TrivecError as error:
            if len(requests) == 1:
                resolve(requests[0].answer, error)
            else:  # whose text it was shows when each is computed by itself
                for request in requests:
                    if not request.answer.done():
                        self._compute_together([request])
            return
        steps.close()
        self._measure(joined.began, sum(r.answer.tokens for r in requests), len(joined.texts.token_ids))

    def _compute_step(self, request: Request) -> None:
        """Compute a batch of a long request, and have it wait for its next turn."""
        answer = request.answer
        if answer.done():  # cancelled
            if request.steps is not None:
                request.steps.close()
            return
        began = time.monotonic()
        answer.queue_seconds += began - request.since
        try:
            if request.steps is None:
                request.computing = request.ready.popleft()
                settings = request.settings
                request.steps = encode_window(
                    request.computing, self._engine(), settings.heads, settings.max_batch_tokens
                )
            texts, _ = next(request.steps)
            tokens = sum(len(request.computing.token_ids[i]) for i in texts)
            answer.computing_seconds += self._measure(began, tokens, len(texts))
            self._hold(request, -tokens)
        except StopIteration as done:
            request.parts.append(done.value)
            request.steps = None
            request.missing -= 1
            if not request.missing:
                resolve(answer, request.parts[0] if len(request.parts) == 1 else join_windows(request.parts))
        except TrivecError as error:
            resolve(answer, error)
            return
        if request.steps is not None or request.ready:
            request.since = time.monotonic()
            # One that has just finished a window goes on at once: no engine was busy with it this time.
            (self._long.append if request.steps is not None else self._long.appendleft)(request)

    def _measure(self, began: float, tokens: int, texts: int) -> float:
        seconds = time.monotonic() - began
        newest = tokens / max(seconds, 1e-6)
        self._rate = newest if not self._rate else (1 - _NEWEST) * self._rate + _NEWEST * newest
        self._on_batch(tokens, texts, seconds)
        return seconds

    def _batch_tokens(self) -> int:
        return self._engine().batch_tokens


def _drained(waiting: queue.SimpleQueue[T], *, wait: bool) -> Iterator[T]:
    """Yield what is in a queue; if told to wait, at least one."""
    if wait:
        yield waiting.get()
    with suppress(queue.Empty):
        while True:
            yield waiting.get_nowait()
