"""Multi-vector scores of chosen query-document pairs.

MaxSim of a pair is the mean, over the query's tokens, of the largest inner product with any token of the document (M3
paper, arXiv 2402.03216, section 3.2). A matrix product a document serves all its queries. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from trivec.search.exact import Float32, Rows

_CELLS = 4_000_000  # most token-to-token products held at once: 16 MB


class QueryTokens:
    """Token vectors of all queries in one matrix, ready to be scored against documents.

    At full size 10,000 queries of 20 tokens take 0.8 GB.

    Args:
        token_vectors: One (tokens, dim) float32 array a query, at least one token each.
    """

    def __init__(self, token_vectors: Sequence[Float32]) -> None:
        self._lengths = np.array([len(vectors) for vectors in token_vectors], dtype=np.intp)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._vectors = np.concatenate(list(token_vectors))

    def scores(self, document: Float32, queries: Rows) -> Float32:
        """MaxSim of one document with some queries.

        Args:
            document: (tokens, dim) float32.
            queries: (n,) numbers of the queries.

        Returns:
            (n,) float32.
        """
        result = np.empty(len(queries), np.float32)
        widest = max(len(document), document.shape[1])
        rows_at_once = max(1, _CELLS // widest)
        end_of = np.cumsum(self._lengths[queries])
        start = 0
        while start < len(queries):
            done = end_of[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(end_of, done + rows_at_once, side="right")))
            result[start:end] = self._block(document, queries[start:end])
            start = end
        return result

    def _block(self, document: Float32, queries: Rows) -> Float32:
        lengths = self._lengths[queries]
        ends = np.cumsum(lengths)
        # Rows of each query's tokens, one after another.
        rows = np.arange(ends[-1]) + np.repeat(self._starts[queries] - (ends - lengths), lengths)
        best = (self._vectors[rows] @ document.T).max(axis=1)  # (tokens of all these queries,)
        means: Float32 = (np.add.reduceat(best, ends - lengths) / lengths).astype(np.float32)
        return means


def scores_of_all(queries: Sequence[Float32], documents: Iterable[Float32]) -> Float32:
    """MaxSim of every query with every document, whose token vectors are read once.

    Args:
        queries: One (tokens, dim) float32 array a query, at least one token each.
        documents: One (tokens, dim) float32 array a document; those of none score -inf.

    Returns:
        (queries, documents) float32.
    """
    lengths = np.array([len(vectors) for vectors in queries])
    together = np.concatenate(list(queries))
    starts = np.cumsum(lengths) - lengths
    columns = [np.empty((len(queries), 0), np.float32)]
    for block in _blocks(documents, max(1, _CELLS // max(len(together), together.shape[1]))):
        sizes = np.array([len(vectors) for vectors in block])
        found = np.full((len(queries), len(block)), -np.inf, np.float32)
        if sizes.any():
            products = together @ np.concatenate(block).T
            # Documents without vectors are no group of columns.
            best = np.maximum.reduceat(products, (np.cumsum(sizes) - sizes)[sizes > 0], axis=1)
            found[:, sizes > 0] = np.add.reduceat(best, starts, axis=0) / lengths[:, None]
        columns.append(found)
    return np.concatenate(columns, axis=1)


def _blocks(documents: Iterable[Float32], tokens: int) -> Iterator[list[Float32]]:
    block: list[Float32] = []
    size = 0
    for vectors in documents:
        if block and size + len(vectors) > tokens:
            yield block
            block, size = [], 0
        block.append(vectors)
        size += len(vectors)
    if block:
        yield block
