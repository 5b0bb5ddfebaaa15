"""Short requests that are computed together, and which vectors are whose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from trivec.engines import EncodedBatch
from trivec.scheduling.requests import Request, resolve
from trivec.scheduling.together import join_texts, part_of_vectors
from trivec.vectors.embeddings import M3Embeddings


class JoinedRequests:
    """Requests of one kind, at least one, each with its only window tokenized.

    Attributes:
        texts: Those of all, end to end.
        heads: What any of them asks for.
        began: When it was begun to compute them.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.began = time.monotonic()
        self._requests = requests
        self._windows = [request.ready[0] for request in requests]
        self.texts = self._windows[0] if len(requests) == 1 else join_texts(self._windows)
        self._starts = [*accumulate((len(window.token_ids) for window in self._windows), initial=0)]
        self._of_one_text = {
            start: i for i, start in enumerate(self._starts[:-1]) if len(self._windows[i].token_ids) == 1
        }
        heads = [request.settings.heads for request in requests]
        self.heads = replace(heads[0], dense=any(h.dense for h in heads), sparse=any(h.sparse for h in heads))

    @property
    def answered(self) -> bool:
        """Whether nobody waits any more."""
        return all(request.answer.done() for request in self._requests)

    def answer_batch(self, texts: npt.NDArray[np.intp], vectors: EncodedBatch) -> None:
        """Answer those that have no text but one of a batch: `vectors` are those of `texts`."""
        for position, text in enumerate(texts.tolist()):
            if (i := self._of_one_text.get(text)) is not None:
                self._answer(i, vectors, position, position + 1)

    def answer_all(self, vectors: M3Embeddings) -> None:
        """Answer those that were not answered yet."""
        for i, request in enumerate(self._requests):
            if not request.answer.done():
                self._answer(i, vectors, self._starts[i], self._starts[i + 1])

    def _answer(self, i: int, vectors: M3Embeddings | EncodedBatch, start: int, end: int) -> None:
        request = self._requests[i]
        own = part_of_vectors(vectors, start, end, request.settings.heads, self._windows[i].cut)
        request.answer.queue_seconds = self.began - request.since
        request.answer.computing_seconds = time.monotonic() - self.began
        resolve(request.answer, own)
