"""A request on its way through the scheduler, and what its sender holds of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from trivec.checkpoint.tokenizer import TokenizedTexts
from trivec.encoding import EncodingSettings
from trivec.engines import EncodedBatch
from trivec.errors import TrivecError
from trivec.scheduling.together import join_texts
from trivec.vectors.embeddings import M3Embeddings

# What is counted for a text before it is tokenized; most texts have four characters a token, Chinese and code fewer.
_CHARACTERS_PER_TOKEN = 3
# So many characters are tokenized in one go, some 5 ms' worth: short requests are tokenized in between.
_PIECE_CHARACTERS = 10_000
_NOTHING = TokenizedTexts([], frozenset())


class OverloadedError(TrivecError):
    """The queue is full.

    Attributes:
        retry_after: Seconds after which there should be room, by the measured rate.
    """

    def __init__(self, waiting: int, limit: int, retry_after: float) -> None:
        super().__init__(
            f"{waiting:,} tokens wait to be computed and the queue holds {limit:,}: ask again in {retry_after:.0f} s"
        )
        self.retry_after = retry_after


class StoppedError(TrivecError):
    """The scheduler was stopped, or failed, before the request was computed."""


class Answer(Future[M3Embeddings]):
    """What `Scheduler.submit` returns; its result are the vectors. Cancelling it gives its place in the queue back.

    Attributes:
        tokens: Of its texts; as many as there are probably, until they are tokenized.
        queue_seconds: How long its tokenized texts waited to be computed, in all.
        tokenizing_seconds: How long its texts were tokenized, together with those of others perhaps.
        computing_seconds: How long its texts were computed, together with those of others perhaps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0
        self.queue_seconds = self.tokenizing_seconds = self.computing_seconds = 0.0


class Request:
    """What is known of a request while it is on its way. After `submit`, each part is used by one thread only.

    Attributes:
        held: Tokens by which it fills the queue.
        windows: Its texts cut into windows, those not tokenized yet, or not whole.
        missing: How many windows are not computed yet.
        ready: The windows that are tokenized and wait to be computed.
        since: When it began to wait for its turn.
        computing: The window that is being computed by itself.
        steps: Computes it, a batch a step.
        parts: The vectors of windows that are computed.
    """

    def __init__(self, settings: EncodingSettings, answer: Answer, windows: Iterable[list[str]]) -> None:
        self.settings = settings
        self.answer = answer
        self.held = answer.tokens
        self.windows = deque(windows)
        self._pieces: list[TokenizedTexts] = []  # of the first of them
        self._read = 0  # texts in these pieces
        self.missing = len(self.windows)
        self.ready: deque[TokenizedTexts] = deque()
        self.since = time.monotonic()
        self.computing: TokenizedTexts = _NOTHING
        self.steps: Generator[tuple[npt.NDArray[np.intp], EncodedBatch], None, M3Embeddings] | None = None
        self.parts: list[M3Embeddings] = []

    def next_piece(self) -> list[str]:
        """Return the texts that are to be tokenized next, all of one window."""
        window = self.windows[0]
        end, characters = self._read, 0
        while end < len(window) and characters < _PIECE_CHARACTERS:
            characters += len(window[end])
            end += 1
        return window[self._read : end]

    def take_piece(self, piece: TokenizedTexts) -> TokenizedTexts | None:
        """Note that `next_piece` is tokenized; return its window if it is whole now."""
        self._pieces.append(piece)
        self._read += len(piece.token_ids)
        if self._read < len(self.windows[0]):
            return None
        whole = self._pieces[0] if len(self._pieces) == 1 else join_texts(self._pieces)
        self.windows.popleft()
        self._pieces, self._read = [], 0
        return whole

    @property
    def begun(self) -> bool:
        """Whether a window has been tokenized in part."""
        return bool(self._pieces)

    @property
    def length(self) -> tuple[int, int | None]:
        """What must be equal for requests to be tokenized together: how long texts are, and become."""
        return self.settings.max_length, self.settings.heads.mcls

    @property
    def kind(self) -> tuple[bool, bool, int | None, int | None]:
        """What must be equal for requests to be computed together; dense and sparse vectors go with each other."""
        heads = self.settings.heads
        return heads.colbert, heads.normalize, heads.mcls, self.settings.max_batch_tokens


def guessed_tokens(texts: Iterable[str], max_length: int) -> int:
    """Return about how many tokens texts have."""
    return sum(min(max_length, len(text) // _CHARACTERS_PER_TOKEN + 2) for text in texts)


def resolve(answer: Answer, outcome: M3Embeddings | BaseException) -> None:
    """Give an answer its vectors or its error; one that was cancelled or has either stays as it is."""
    with suppress(InvalidStateError):  # cancelled meanwhile
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
