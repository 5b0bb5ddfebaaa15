"""The path from texts to vectors: check, tokenize ahead, batch by length, compute, put back in order.

Works window by window, so memory stays flat however long the input is: while one window is computed, the next one is
tokenized in a second thread. Knows the tokenizer and the engine only by what they are asked to do.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from trivec.batching import plan_batches
from trivec.embeddings import M3Embeddings
from trivec.engines import EncodedBatch, Engine, Heads
from trivec.sparse import SparseMatrix, stack_rows
from trivec.tokenizer import M3Tokenizer, TokenizedTexts

# Texts sorted and batched together: enough that neighbours in length exist, few enough that token vectors stay small.
WINDOW = 1024
# A progress bar only appears on work that is still going after this many seconds.
_PROGRESS_DELAY = 5.0


@dataclass(frozen=True)
class EncodingSettings:
    """How to encode: which heads, the longest text in tokens, the tokens of a batch, whether to show progress."""

    heads: Heads
    max_length: int
    token_budget: int
    show_progress: bool


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, making sure that each is a string.

    Raises:
        TypeError: `texts` is a bare string or no iterable, or an element is not a string; the index is named.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            f"texts must be a list or other iterable of str, got a bare {type(texts).__name__}: write [text]"
        )
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a list or other iterable of str, got {type(texts).__name__}")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{i}] is {text!r:.60} ({type(text).__name__}), expected a str")
        yield text


def encode_windows(
    texts: Iterable[str], total: int | None, tokenizer: M3Tokenizer, engine: Engine, settings: EncodingSettings
) -> Iterator[M3Embeddings]:
    """Encode texts, yielding the vectors of up to `WINDOW` texts at a time, in the order of the texts.

    If `texts` itself raises, the windows read before are still yielded, then the error is raised. At the end one
    warning counts the texts that were cut to `settings.max_length`.
    """
    seen = truncated = 0
    with tqdm(
        total=total, desc="Encoding", unit="text", delay=_PROGRESS_DELAY, disable=not settings.show_progress
    ) as progress:
        for window in _tokenized_windows(texts, tokenizer, settings.max_length):
            yield _encode_window(window, engine, settings, progress)
            seen += len(window.token_ids)
            truncated += window.truncated
    if truncated:
        warnings.warn(
            f"{truncated} of {seen} texts had more than max_length={settings.max_length} tokens and were cut to it",
            UserWarning,
            stacklevel=4,
        )


def empty_embeddings(heads: Heads, dense_dim: int, vocabulary_size: int) -> M3Embeddings:
    """The vectors of no text at all, in the shapes that some texts would have."""
    return M3Embeddings(
        dense=np.empty((0, dense_dim), np.float32) if heads.dense else None,
        sparse=SparseMatrix((0, vocabulary_size), dtype=np.float32) if heads.sparse else None,
        colbert_vecs=[] if heads.colbert else None,
    )


def _tokenized_windows(texts: Iterable[str], tokenizer: M3Tokenizer, max_length: int) -> Iterator[TokenizedTexts]:
    """Tokenize window by window, one ahead of the caller. The input is read in the caller's thread."""
    ahead: deque[Future[TokenizedTexts]] = deque()
    failure: Exception | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="trivec-tokenizer") as pool:
        try:
            for window in _windows(texts):
                ahead.append(pool.submit(tokenizer.encode_batch, window, max_length))
                if len(ahead) == 2:
                    yield ahead.popleft().result()
        except Exception as error:  # the input failed midway: encode what came before, then pass it on
            failure = error
        while ahead:
            yield ahead.popleft().result()
    if failure is not None:
        raise failure


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    try:
        for text in texts:
            window.append(text)
            if len(window) == WINDOW:
                yield window
                window = []
    except Exception:
        if window:
            yield window
        raise
    if window:
        yield window


def _encode_window(
    window: TokenizedTexts, engine: Engine, settings: EncodingSettings, progress: tqdm[Any]
) -> M3Embeddings:
    lengths = np.array([len(ids) for ids in window.token_ids])
    batches = plan_batches(lengths, settings.token_budget)
    encoded: list[EncodedBatch] = []
    for batch in batches:
        encoded.append(engine.encode([window.token_ids[i] for i in batch], settings.heads))
        progress.update(len(batch))
    return _in_input_order(encoded, np.argsort(np.concatenate(batches)))


def _in_input_order(encoded: list[EncodedBatch], position: np.ndarray[Any, Any]) -> M3Embeddings:
    """Join batches; `position[i]` is where text i lies in the batches laid end to end."""
    dense = [batch.dense for batch in encoded if batch.dense is not None]
    sparse = [batch.sparse for batch in encoded if batch.sparse is not None]
    colbert = [vectors for batch in encoded if batch.colbert_vecs is not None for vectors in batch.colbert_vecs]
    return M3Embeddings(
        dense=np.concatenate(dense)[position] if dense else None,
        sparse=stack_rows(sparse)[position] if sparse else None,
        colbert_vecs=[colbert[i] for i in position] if colbert else None,
    )
