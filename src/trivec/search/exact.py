"""Exact search by blocked matrix products, and the bookkeeping of (query, document, score) triples.

Queries and documents are row numbers here. Of equal scores the lower document number wins, so that a ranking does not
depend on block sizes. Memory: a block of documents, a block of queries, the scores between them, and the results.
Knows nothing of texts, models or caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

_QUERY_BLOCK = 1024
_PAIR_BLOCK = 4096


class EncodedBlock(NamedTuple):
    """Vectors of consecutive texts.

    Attributes:
        start: Row number of the first text.
        dense: (n, dim) float32, unit rows; None where only sparse vectors were asked for.
        sparse: (n, vocabulary) lexical weights; None for a model without a sparse head.
    """

    start: int
    dense: Float32 | None
    sparse: csr_array | None


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of some query-document pairs: three aligned arrays of length p.

    Attributes:
        query: Row numbers of the queries.
        document: Row numbers of the documents.
        score: The scores, float32.
    """

    query: Rows
    document: Rows
    score: Float32

    def top(self, k: int) -> ScoredPairs:
        """The `k` best pairs of every query, sorted by query, then from the best score down."""
        order = np.lexsort((self.document, -self.score, self.query))
        query = self.query[order]
        first = np.searchsorted(query, query, side="left")
        order = order[np.arange(len(query)) - first < k]
        return ScoredPairs(self.query[order], self.document[order], self.score[order])

    def by_query(self, queries: int) -> Iterator[tuple[Rows, Float32]]:
        """Yield (documents, scores) of query 0, 1, ...; the pairs must be sorted by query, as `top` leaves them."""
        bounds = np.searchsorted(self.query, np.arange(queries + 1))
        for start, end in pairwise(bounds):
            yield self.document[start:end], self.score[start:end]

    @classmethod
    def join(cls, parts: Iterable[ScoredPairs]) -> ScoredPairs:
        """All pairs of all parts; none at all if there are no parts."""
        parts = [cls(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)), *parts]
        return cls(
            np.concatenate([part.query for part in parts]),
            np.concatenate([part.document for part in parts]),
            np.concatenate([part.score for part in parts]),
        )


class ExactResults(NamedTuple):
    """What `exact_search` finds: sorted pairs, or None for a kind of vector that is missing."""

    dense: ScoredPairs | None
    sparse: ScoredPairs | None


def exact_search(queries: EncodedBlock, corpus: Iterable[EncodedBlock], k: int, excluded: Rows) -> ExactResults:
    """Find the k best documents of every query by dense and by sparse score, reading the corpus once.

    The dense score is the inner product of unit vectors; the sparse score sums the products of the lexical weights of
    common tokens (M3 paper, arXiv 2402.03216, section 3.2). Documents without a common token are no sparse result.

    Args:
        queries: All queries, in one block.
        corpus: The documents' blocks, in ascending order.
        k: Results a query, fewer where the corpus has no more.
        excluded: (queries,) document that a query must not find, or -1.
    """
    count = _rows(queries)
    parts = [slice(start, min(start + _QUERY_BLOCK, count)) for start in range(0, count, _QUERY_BLOCK)]
    dense = [_Best(k, part.start, part.stop - part.start) for part in parts]
    sparse = [_Best(k, part.start, part.stop - part.start) for part in parts]
    for block in corpus:
        for number, part in enumerate(parts):
            if queries.dense is not None and block.dense is not None:
                scores = queries.dense[part] @ block.dense.T
                dense[number].add(scores, block.start, excluded[part])
            if queries.sparse is not None and block.sparse is not None:
                scores = (queries.sparse[part] @ block.sparse.T).toarray()
                scores[scores == 0] = -np.inf
                sparse[number].add(scores, block.start, excluded[part])
    return ExactResults(
        dense=None if queries.dense is None else ScoredPairs.join(best.pairs() for best in dense),
        sparse=None if queries.sparse is None else ScoredPairs.join(best.pairs() for best in sparse),
    )


def union(parts: Iterable[ScoredPairs | None]) -> tuple[Rows, Rows]:
    """Distinct (query, document) pairs of several results, sorted by document, then query."""
    found = ScoredPairs.join(part for part in parts if part is not None)
    if not len(found.query):
        return found.query, found.document
    pairs = np.unique(np.stack([found.document, found.query], axis=1), axis=0)
    return pairs[:, 1], pairs[:, 0]


def pair_scores(
    queries: EncodedBlock, corpus: Iterable[EncodedBlock], query: Rows, document: Rows
) -> tuple[Float32, Float32]:
    """Dense and sparse scores of given pairs, reading the corpus once.

    Args:
        queries: All queries, in one block.
        corpus: The documents' blocks, in ascending order.
        query: (p,) query of each pair.
        document: (p,) its document, ascending.

    Returns:
        (p,) dense and (p,) sparse scores; zeros for a kind of vector that is missing.
    """
    dense = np.zeros(len(query), np.float32)
    sparse = np.zeros(len(query), np.float32)
    for block in corpus:
        low, high = np.searchsorted(document, [block.start, block.start + _rows(block)])
        for start in range(low, high, _PAIR_BLOCK):
            part = slice(start, min(start + _PAIR_BLOCK, high))
            rows, columns = query[part], document[part] - block.start
            if queries.dense is not None and block.dense is not None:
                dense[part] = np.einsum("pd,pd->p", queries.dense[rows], block.dense[columns])
            if queries.sparse is not None and block.sparse is not None:
                sparse[part] = queries.sparse[rows].multiply(block.sparse[columns]).sum(axis=1)
    return dense, sparse


class _Best:
    """The k best pairs so far of a block of queries."""

    def __init__(self, k: int, first_query: int, queries: int) -> None:
        self._k = k
        self._first_query = first_query
        self._floor = np.full(queries, -np.inf, np.float32)  # score that a query's later documents must exceed
        self._best = ScoredPairs.join([])
        self._waiting: list[ScoredPairs] = []  # found since, and not yet compared with the best

    def add(self, scores: Float32, first_document: int, excluded: Rows) -> None:
        """Take in the scores (queries, documents) of the next block, which -inf leaves out; `scores` is overwritten."""
        inside = np.flatnonzero((excluded >= first_document) & (excluded < first_document + scores.shape[1]))
        scores[inside, excluded[inside] - first_document] = -np.inf
        keep = scores > self._floor[:, None]
        if scores.shape[1] > self._k and keep.sum() > len(scores) * self._k:
            # More than all queries together can keep: take only what is among the k best of this block.
            keep &= scores >= np.partition(scores, -self._k, axis=1)[:, [-self._k]]
        query, document = np.nonzero(keep)
        self._waiting.append(ScoredPairs(query + self._first_query, document + first_document, scores[keep]))
        # Sorting is what costs: do it once as many pairs wait as the best of all queries are.
        if sum(len(part.query) for part in self._waiting) >= len(scores) * self._k:
            self.pairs()

    def pairs(self) -> ScoredPairs:
        """The best of all blocks so far, sorted by query, then from the best score down."""
        self._best = ScoredPairs.join([self._best, *self._waiting]).top(self._k)
        self._waiting = []
        count = np.bincount(self._best.query - self._first_query, minlength=len(self._floor))
        full = count == self._k
        self._floor[full] = self._best.score[np.cumsum(count)[full] - 1]
        return self._best


def _rows(block: EncodedBlock) -> int:
    vectors = block.dense if block.dense is not None else block.sparse
    return 0 if vectors is None else int(vectors.shape[0])
