"""Search of a corpus too large for exact search, in a Milvus Lite file that lives as long as the search.

Dense results are then those of Milvus's index, which may miss a few of the true nearest ones; scores are exact. Knows
nothing of texts: rows are found by their number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trivec.evaluation.search import EncodedBlock, ExactResults, Rows, ScoredPairs
from trivec.milvus import rows, schema
from trivec.milvus.connection import Connection

_NAME = "corpus"
_ROWS_PER_REQUEST = 256
_QUERIES_PER_REQUEST = 100


def milvus_search(queries: EncodedBlock, corpus: Iterable[EncodedBlock], k: int, excluded: Rows) -> ExactResults:
    """Find the k best documents of every query by dense and by sparse score; `exact_search` for large corpora.

    Args:
        queries: All queries, in one block, with dense vectors.
        corpus: The documents' blocks, with dense vectors.
        k: Results a query; Milvus allows up to 16,383.
        excluded: (queries,) document that a query must not find, or -1.

    Raises:
        MilvusError: Milvus refused a request.
        MissingExtraError: pymilvus or milvus-lite is not installed.
    """
    assert queries.dense is not None
    with tempfile.TemporaryDirectory(prefix="trivec-") as folder:
        connection = Connection(str(Path(folder) / "corpus.db"))
        try:
            with connection.request("store the corpus to evaluate on") as client:
                schema.create(client, _NAME, queries.dense.shape[1])
                for block in corpus:
                    _insert(client, block)
                client.flush(_NAME)
            with connection.request("search the corpus to evaluate on") as client:
                dense = _search(client, "dense", queries.dense.__getitem__, np.arange(len(queries.dense)), k, excluded)
                if queries.sparse is None:
                    return ExactResults(dense, None)
                sparse = queries.sparse
                matchable = np.flatnonzero(np.diff(sparse.indptr))  # Milvus refuses a query without weights
                found = _search(client, "sparse", lambda row: _weights(sparse, row), matchable, k, excluded)
                return ExactResults(dense, found)
        finally:
            connection.close()


def _insert(client: Any, block: EncodedBlock) -> None:
    assert block.dense is not None
    for start in range(0, len(block.dense), _ROWS_PER_REQUEST):
        batch = range(start, min(start + _ROWS_PER_REQUEST, len(block.dense)))
        client.insert(
            _NAME,
            [
                {
                    "id": str(block.start + row),
                    "text": "",
                    "dense": block.dense[row],
                    "sparse": (_weights(block.sparse, row) if block.sparse is not None else {})
                    or rows.NO_LEXICAL_WEIGHTS,
                }
                for row in batch
            ],
        )


def _search(
    client: Any, field: str, vector: Callable[[int], Any], numbers: Rows, k: int, excluded: Rows
) -> ScoredPairs:
    parts = []
    for start in range(0, len(numbers), _QUERIES_PER_REQUEST):
        group = numbers[start : start + _QUERIES_PER_REQUEST]
        found = client.search(
            _NAME,
            data=[vector(int(number)) for number in group],
            anns_field=field,
            search_params={"metric_type": "IP"},
            limit=k + 1,  # one of them may be excluded
        )
        hits = [(number, int(hit["id"]), hit["distance"]) for number, ranking in zip(group, found, strict=True) for hit in ranking]
        query, document, score = (np.array(column) for column in zip(*hits, strict=True)) if hits else ([], [], [])
        pairs = ScoredPairs(np.asarray(query, np.intp), np.asarray(document, np.intp), np.asarray(score, np.float32))
        kept = (pairs.document != excluded[pairs.query]) & ((field == "dense") | (pairs.score > 0))
        parts.append(ScoredPairs(pairs.query[kept], pairs.document[kept], pairs.score[kept]))
    return ScoredPairs.join(parts).top(k)


def _weights(matrix: Any, row: int) -> dict[int, float]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return dict(zip(matrix.indices[part].tolist(), matrix.data[part].tolist(), strict=True))
