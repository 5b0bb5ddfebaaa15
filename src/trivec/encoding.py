"""The path from texts to vectors: check, tokenize ahead, compute, put back in order.

Works window by window, so memory stays flat however long the input is: while one window is computed, the next one is
tokenized in a second thread. Knows the tokenizer and the engine only by what they are asked to do.
"""

from __future__ import annotations

import _thread
import os
import queue
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from trivec.checkpoint.tokenizer import TokenizedTexts
from trivec.engines import EncodedBatch, Engine, Heads
from trivec.engines.mcls import longest_before, with_more_cls
from trivec.errors import TrivecError
from trivec.support.caller import level_of_the_caller
from trivec.support.forks import no_fork_meanwhile
from trivec.support.progress import ProgressBar, progress_bar
from trivec.vectors.embeddings import M3Embedding, M3Embeddings
from trivec.vectors.sparse import SparseMatrix, stack_rows

Given = TypeVar("Given")
Made = TypeVar("Made")
Text = TypeVar("Text", bound=Sized)  # a str, or a pair of them; its length is in characters
Read_contra = TypeVar("Read_contra", bound=Sized, contravariant=True)


class Tokenizes(Protocol[Read_contra]):
    """What is asked of a tokenizer."""

    def encode_batch(self, texts: Sequence[Read_contra], max_length: int) -> TokenizedTexts:
        """Tokenize texts, each cut to `max_length` tokens."""
        ...


# Texts sorted and batched together: enough that neighbours in length exist ...
WINDOW = 1024
# ... but no more once they have these many characters (a million tokens, say). Token vectors, 4 KB a token at full
# size, are held for a window, so with them it closes earlier.
_WINDOW_CHARACTERS = 4_000_000
_WINDOW_CHARACTERS_WITH_TOKEN_VECTORS = 100_000


class TruncationWarning(UserWarning):
    """Some texts were longer than the maximal length and were cut to it.

    Attributes:
        truncated: How many.
        total: Of how many.
        max_length: The maximal length in tokens.
    """

    def __init__(self, truncated: int, total: int, max_length: int, of: str = "", what: str = "texts") -> None:
        cut = f"{truncated} of {total} {what} had more than max_length={max_length} tokens and were cut to it"
        super().__init__(f"{of}: {cut}" if of else cut)
        self.truncated, self.total, self.max_length = truncated, total, max_length


def warn_of_truncation(truncated: int, total: int, max_length: int, of: str = "", what: str = "texts") -> None:
    """Warn, at the line of the user's that called trivec, if any texts were cut; `of` says which texts they are.

    `what` says what was cut where it was no text.

    For the outermost call only: what trivec calls inside reads `M3Embeddings.truncated`.
    """
    if truncated:
        warnings.warn(TruncationWarning(truncated, total, max_length, of, what), stacklevel=level_of_the_caller())


@dataclass(frozen=True)
class EncodingSettings:
    """How to encode: which heads, the longest text in tokens, the tokens of a batch, whether to show progress."""

    heads: Heads
    max_length: int
    max_batch_tokens: int | None
    show_progress: bool


def encode_windows(
    texts: Iterable[Text],
    total: int | None,
    tokenizer: Tokenizes[Text],
    engine: Engine,
    settings: EncodingSettings,
    doing: tuple[str, str] = ("Encoding", "texts"),
) -> Generator[M3Embeddings, None, None]:
    """Encode texts, yielding the vectors of one window after another, in the order of the texts.

    `doing` is what the progress bar says. If `texts` itself raises, what was read before is still encoded and yielded,
    then the error is raised.
    """
    process = os.getpid()
    with (
        progress_bar(total, *doing, settings.show_progress) as progress,
        # Closed here: as it were freed, a second Ctrl-C would be shown as an error that is ignored.
        closing(_tokenized_windows(texts, tokenizer, settings)) as windows,
    ):
        for window in windows:
            yield _encode_window(window, engine, settings, progress)
            if os.getpid() != process:  # the thread that tokenizes ahead stayed behind
                raise TrivecError("this stream was begun before the process was forked: begin it in the child")


def texts_of(windows: Generator[M3Embeddings, None, None], max_length: int) -> Iterator[M3Embedding]:
    """Yield the vectors of one text after another, and warn at the end if any were cut to `max_length`."""
    seen = truncated = 0
    with closing(windows):
        for window in windows:
            yield from window
            seen += len(window)
            truncated += window.truncated
    warn_of_truncation(truncated, seen, max_length)


def empty_embeddings(heads: Heads, dense_dim: int, vocabulary_size: int) -> M3Embeddings:
    """The vectors of no text at all, in the shapes that some texts would have."""
    return M3Embeddings(
        dense=np.empty((0, dense_dim), np.float32) if heads.dense else None,
        sparse=SparseMatrix((0, vocabulary_size), dtype=np.float32) if heads.sparse else None,
        colbert_vecs=[] if heads.colbert else None,
    )


def join_windows(windows: Sequence[M3Embeddings]) -> M3Embeddings:
    """The vectors of windows, at least one, as those of one."""
    dense = [window.dense for window in windows if window.dense is not None]
    sparse = [window.sparse for window in windows if window.sparse is not None]
    starts = accumulate(map(len, windows), initial=0)
    return M3Embeddings(
        dense=np.concatenate(dense) if dense else None,
        sparse=stack_rows(sparse) if sparse else None,
        colbert_vecs=[vectors for window in windows for vectors in window.colbert_vecs or ()] or None,
        cut=frozenset(start + i for start, window in zip(starts, windows, strict=False) for i in window.cut),
    )


def _tokenized_windows(
    texts: Iterable[Text], tokenizer: Tokenizes[Text], settings: EncodingSettings
) -> Generator[TokenizedTexts, None, None]:
    """Tokenize window by window, one ahead of the caller. The input is read in the caller's thread."""
    windows = windows_of(texts, settings.heads.colbert)
    window, last, failure = next(windows)
    if last:  # a query, or a few texts: nothing to be ahead of, and a thread takes half a millisecond to start
        if window:
            yield tokenize_window(window, tokenizer, settings.max_length, settings.heads.mcls)
    else:
        second: _SecondThread[list[Text], TokenizedTexts] = _SecondThread(
            partial(tokenize_window, tokenizer=tokenizer, max_length=settings.max_length, every=settings.heads.mcls)
        )
        try:
            second.start()
            second.begin(window)
            while not last:
                window, last, failure = next(windows)
                second.begin(window)
                yield second.result()
            if window:
                yield second.result()
        finally:
            second.end()
    if failure is not None:
        raise failure


class _SecondThread(Generic[Given, Made]):
    """Does one kind of work beside the caller, in the order given.

    Python's own threads and executors are guarded by Conditions, and Ctrl-C at the moment that one is taken leaves it
    taken: the thread then waits for it, and the caller for the thread, for ever. Here all is done in single steps.
    """

    def __init__(self, work: Callable[[Given], Made]) -> None:
        self._work = work
        self._given: queue.SimpleQueue[tuple[Given] | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[tuple[Made] | BaseException] = queue.SimpleQueue()
        self._awaited = 0

    def start(self) -> None:
        _thread.start_new_thread(self._run, ())

    def end(self) -> None:
        """Wait for the work that was begun, and let the thread end."""
        self._given.put(None)
        while self._awaited:
            self._awaited -= 1
            self._made.get()

    def begin(self, given: Given) -> None:
        self._given.put((given,))
        self._awaited += 1

    def result(self) -> Made:
        """Return what came of the first work whose result was not taken yet, or raise what it raised."""
        self._awaited -= 1  # first: what is taken and then counted could be waited for once more
        made = self._made.get()
        if isinstance(made, BaseException):
            try:
                raise made
            finally:
                del made  # else the error and this frame would keep each other alive
        return made[0]

    def _run(self) -> None:
        while (given := self._given.get()) is not None:
            try:
                self._made.put((self._work(*given),))
            except BaseException as error:  # whatever it is, it belongs to the caller
                self._made.put(error)


def tokenize_window(
    window: list[Text], tokenizer: Tokenizes[Text], max_length: int, every: int | None = None
) -> TokenizedTexts:
    """Tokenize texts while no other thread forks; `every`, unless None: with a `<s>` before every so many tokens."""
    with no_fork_meanwhile():
        if every is None:
            return tokenizer.encode_batch(window, max_length)
        tokenized = tokenizer.encode_batch(window, longest_before(max_length, every))
    return TokenizedTexts([with_more_cls(ids, every) for ids in tokenized.token_ids], tokenized.cut)


def windows_of(texts: Iterable[Text], token_vectors: bool) -> Iterator[tuple[list[Text], bool, Exception | None]]:
    """Cut texts into windows; the last may be empty.

    Yields:
        The texts, whether they are the last, and what reading on raised, if it did.
    """
    gathering: WindowGathering[Text] = WindowGathering(token_vectors)
    failure: Exception | None = None
    try:
        for text in texts:
            if (window := gathering.add(text)) is not None:
                yield window, False, None
    except Exception as error:  # the caller's iterable may raise anything: what came before it is encoded first
        failure = error
    yield gathering.rest(), True, failure


class WindowGathering(Generic[Text]):
    """Gathers texts into windows, for callers to whom the texts come one by one."""

    def __init__(self, token_vectors: bool) -> None:
        self._limit = _WINDOW_CHARACTERS_WITH_TOKEN_VECTORS if token_vectors else _WINDOW_CHARACTERS
        self._window: list[Text] = []
        self._characters = 0

    def add(self, text: Text) -> list[Text] | None:
        """Add a text; if that fills the window, return it and begin another."""
        self._window.append(text)
        self._characters += len(text)
        if len(self._window) < WINDOW and self._characters < self._limit:
            return None
        window, self._window, self._characters = self._window, [], 0
        return window

    def rest(self) -> list[Text]:
        """Return the window that is not full, perhaps of no text."""
        return self._window


def encode_window(
    window: TokenizedTexts, engine: Engine, heads: Heads, max_batch_tokens: int | None
) -> Generator[tuple[npt.NDArray[np.intp], EncodedBatch], None, M3Embeddings]:
    """Encode a window in steps of a batch, so that the caller may do something else between two.

    Args:
        window: At least one text.
        engine: Computes.
        heads: What it computes.
        max_batch_tokens: As `Engine.encode` takes it.

    Yields:
        The indices of the texts that have just been computed and their vectors, a batch after another.

    Returns:
        The vectors, in the order of the texts.
    """
    batches: list[npt.NDArray[np.intp]] = []
    encoded: list[EncodedBatch] = []
    computed = engine.encode(window.token_ids, heads, max_batch_tokens)
    while True:
        with no_fork_meanwhile():
            batch = next(computed, None)
        if batch is None:
            break
        texts, vectors = batch
        batches.append(texts)
        encoded.append(vectors)
        yield texts, vectors
    position = np.argsort(np.concatenate(batches))  # where text i lies in the batches laid end to end
    dense = [batch.dense for batch in encoded if batch.dense is not None]
    sparse = [batch.sparse for batch in encoded if batch.sparse is not None]
    colbert = [vectors for batch in encoded for vectors in batch.colbert_vecs or ()]
    return M3Embeddings(
        dense=np.concatenate(dense)[position] if dense else None,
        sparse=stack_rows(sparse)[position] if sparse else None,
        colbert_vecs=[colbert[i] for i in position] if colbert else None,
        cut=window.cut,
    )


def _encode_window(
    window: TokenizedTexts, engine: Engine, settings: EncodingSettings, progress: ProgressBar
) -> M3Embeddings:
    steps = encode_window(window, engine, settings.heads, settings.max_batch_tokens)
    while True:
        try:
            texts, _ = next(steps)
            progress.update(len(texts))
        except StopIteration as done:
            embeddings: M3Embeddings = done.value
            return embeddings
