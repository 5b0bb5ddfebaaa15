"""`M3Model` for programs on asyncio: the model in this process behind a queue, or that of a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

from trivec.encoding import EncodingSettings, WindowGathering, warn_of_truncation
from trivec.errors import TrivecError
from trivec.model.in_order import in_order
from trivec.model.m3_model import M3Model
from trivec.support.addresses import is_url
from trivec.support.arguments import checked_pairs, checked_texts, checked_weights
from trivec.support.forks import PerProcess
from trivec.vectors.embeddings import FloatArray, M3Embedding, M3Embeddings, asked_for
from trivec.vectors.scoring import PairScores, in_five_modes, pair_scores
from trivec.vectors.sparse import SparseMatrix

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trivec.scheduling.scheduler import Scheduler
    from trivec.vectors import kinds


class AsyncM3Model:
    """A BGE-M3-shaped model whose methods are awaited. Make one with `await AsyncM3Model.load(...)`.

    In this process texts of all callers go through one queue, so that short ones share batches and do not wait for long
    ones; with a URL, that queue is the server's. Cancelling a call gives its place in the queue back.

    Example:
        >>> async with await AsyncM3Model.load("BAAI/bge-m3") as model:  # doctest: +SKIP
        ...     embeddings = await model.encode(["Alan Turing was born in London."])
        ...     async for embedding in model.encode_stream(lines):
        ...         ...

    Attributes:
        model: The `M3Model` beneath: its `dim`, `tokenizer`, `fingerprint` and so on are as ever.
    """

    def __init__(self, model: M3Model) -> None:
        """Take a loaded model, which `close` will close."""
        self.model = model
        self._computing: Computing
        if is_url(model.name):
            from trivec.model.async_remote import OnServer

            self._computing = OnServer(model)
        else:
            self._computing = InProcess(model)

    @classmethod
    async def load(cls, name_or_path: str | Path = "BAAI/bge-m3", **options: Any) -> AsyncM3Model:
        """Load a model, or use a server's, as `M3Model.load`, which has the options and errors."""
        return cls(await asyncio.to_thread(M3Model.load, name_or_path, **options))

    @property
    def dim(self) -> dict[str, int]:
        """As `M3Model.dim`."""
        return self.model.dim

    def __repr__(self) -> str:
        return repr(self.model).replace("M3Model", "AsyncM3Model", 1)

    @overload
    async def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseAndSparse]
    ) -> M3Embeddings[FloatArray, SparseMatrix, None]: ...

    @overload
    async def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.AllThree]
    ) -> M3Embeddings[FloatArray, SparseMatrix, list[FloatArray]]: ...

    @overload
    async def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseOnly]
    ) -> M3Embeddings[FloatArray, None, None]: ...

    @overload
    async def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.SparseOnly]
    ) -> M3Embeddings[None, SparseMatrix, None]: ...

    @overload
    async def encode(self, texts: Iterable[str], **options: Unpack[kinds.Unknown]) -> M3Embeddings: ...

    async def encode(self, texts: Iterable[str], **options: Any) -> M3Embeddings[Any, Any, Any]:
        """Encode texts, as `M3Model.encode`, which has the options and errors; there is no progress bar."""
        settings = self._settings(**options)
        async with aclosing(self._computing.windows(checked_texts(texts), settings)) as windows:
            embeddings = self.model._joined([window async for window in windows], settings)
        warn_of_truncation(embeddings.truncated, len(embeddings), settings.max_length)
        return embeddings

    def encode_stream(
        self, texts: Iterable[str] | AsyncIterable[str], **options: Unpack[kinds.Unknown]
    ) -> AsyncIterator[M3Embedding]:
        """Encode texts one after another, as `M3Model.encode_stream`, in flat memory; `async for` takes the vectors.

        Args:
            texts: Any iterable of str, also an asynchronous one. A plain one is read in the loop, which waits for it.
            **options: As of `M3Model.encode`.
        """
        settings = self._settings(**options)
        return self._stream(texts if isinstance(texts, AsyncIterable) else checked_texts(texts), settings)

    async def _stream(
        self, texts: Iterable[str] | AsyncIterable[str], settings: EncodingSettings
    ) -> AsyncGenerator[M3Embedding, None]:
        seen = truncated = 0
        async with aclosing(self._computing.windows(texts, settings)) as windows:
            async for window in windows:
                for embedding in window:
                    yield embedding
                seen += len(window)
                truncated += window.truncated
        warn_of_truncation(truncated, seen, settings.max_length)

    async def token_weights(self, text: str) -> list[tuple[str, float]]:
        """Return the text's (token, lexical weight) pairs for people to read, heaviest first."""
        embeddings = await self.encode([text], return_dense=False)
        return await asyncio.to_thread(self.model.named_weights, asked_for(embeddings.sparse))

    async def compute_score(
        self,
        pairs: Iterable[tuple[str, str]] | tuple[str, str],
        weights: Sequence[float] | None = None,
        *,
        max_batch_tokens: int | None = None,
        max_length: int | None = None,
    ) -> dict[str, Any]:
        """Score (query, passage) pairs in FlagEmbedding's five modes, as `M3Model.compute_score`."""
        listed, one = checked_pairs(pairs)
        of_three = checked_weights(self.model.fusion_weights if weights is None else weights)
        settings = self._settings(max_batch_tokens=max_batch_tokens, max_length=max_length, return_colbert_vecs=True)
        scores, truncated = await self._computing.scores(listed, settings)
        warn_of_truncation(truncated, 2 * len(listed), settings.max_length)
        modes = in_five_modes(scores, of_three)
        return {mode: values[0] for mode, values in modes.items()} if one else modes

    async def close(self) -> None:
        """Give the model's memory back, or close the connections; encoding afterwards is an error."""
        self.model.closed = True
        await self._computing.close()
        await asyncio.to_thread(self.model.close)

    async def __aenter__(self) -> AsyncM3Model:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    def _settings(self, **options: Any) -> EncodingSettings:
        if self.model.closed:
            raise TrivecError("the model is closed: load it again")
        return self.model.encoding_settings(**options)


class Computing(Protocol):
    """Who computes for an `AsyncM3Model`."""

    def windows(
        self, texts: Iterable[str] | AsyncIterable[str], settings: EncodingSettings
    ) -> AsyncGenerator[M3Embeddings, None]:
        """Yield the vectors of one window after another."""
        ...

    async def scores(self, pairs: list[tuple[str, str]], settings: EncodingSettings) -> tuple[PairScores, int]:
        """Return the scores of pairs, and how many of their texts were cut."""
        ...

    async def close(self) -> None:
        """Take no more requests."""
        ...


class InProcess:
    """This process computes, behind a queue: the one that a server has too, without its limit."""

    def __init__(self, model: M3Model) -> None:
        def scheduler() -> Scheduler:
            return model.scheduler(max_queue_tokens=sys.maxsize)

        self._scheduler = PerProcess(scheduler(), scheduler)  # a forked child has none of its threads

    def windows(
        self, texts: Iterable[str] | AsyncIterable[str], settings: EncodingSettings
    ) -> AsyncGenerator[M3Embeddings, None]:
        """Yield the vectors of one window after another."""

        async def computed(window: list[str]) -> M3Embeddings:
            return await asyncio.wrap_future(self._scheduler.get().submit(window, settings))

        return in_order(texts, WindowGathering(settings.heads.colbert), computed)

    async def scores(self, pairs: list[tuple[str, str]], settings: EncodingSettings) -> tuple[PairScores, int]:
        """Return the scores of pairs, and how many of their texts were cut."""
        async with aclosing(self.windows([text for pair in pairs for text in pair], settings)) as windows:
            computed = [window async for window in windows]
        of_texts = [embedding for window in computed for embedding in window]
        scores = await asyncio.to_thread(pair_scores, of_texts[::2], of_texts[1::2])
        return scores, sum(window.truncated for window in computed)

    async def close(self) -> None:
        """Stop the queue; what waits in it fails."""
        if (scheduler := self._scheduler.own()) is not None:
            await asyncio.to_thread(scheduler.stop)
