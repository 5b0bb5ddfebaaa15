"""Search of a corpus too large for exact search, in a Milvus Lite file that lives as long as the search.

Results and scores are exact: dense vectors are compared with every row, as Milvus Lite's own choice of an index looks
at 64 rows a query. Knows nothing of texts: rows are found by their number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trivec.milvus.connection import Connection
from trivec.search.exact import EncodedBlock, ExactResults, Rows, ScoredPairs

_NAME = "corpus"
_INDEX_TYPES = {"dense": "FLAT", "sparse": "SPARSE_INVERTED_INDEX"}
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
        MissingExtraError: `pymilvus` or `milvus-lite` is not installed.
    """
    assert queries.dense is not None
    with tempfile.TemporaryDirectory(prefix="trivec-") as folder:
        connection = Connection(str(Path(folder) / "corpus.db"))
        try:
            with connection.request("store the corpus to evaluate on") as client:
                _create(client, queries.dense.shape[1])
                for block in corpus:
                    _insert(client, block)
                client.flush(_NAME)
            with connection.request("search the corpus to evaluate on") as client:
                everyone = np.arange(len(queries.dense), dtype=np.intp)
                dense = _search(client, "dense", list(queries.dense), everyone, k, excluded)
                if queries.sparse is None:
                    return ExactResults(dense, None)
                weights = [_weights(queries.sparse, row) for row in range(len(everyone))]
                matchable = everyone[[bool(one) for one in weights]]  # Milvus refuses others
                sparse = _search(client, "sparse", weights, matchable, k, excluded)
                matched = sparse.score > 0
                return ExactResults(
                    dense, ScoredPairs(sparse.query[matched], sparse.document[matched], sparse.score[matched])
                )
        finally:
            connection.close()


def _create(client: Any, dense_dim: int) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dense_dim)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    indexes = client.prepare_index_params()
    for field, index_type in _INDEX_TYPES.items():
        indexes.add_index(field, index_type=index_type, metric_type="IP")
    client.create_collection(_NAME, schema=schema, index_params=indexes, consistency_level="Session")


def _insert(client: Any, block: EncodedBlock) -> None:
    assert block.dense is not None
    # Milvus Lite refuses a sparse vector without entries: one at a token id beyond the vocabulary matches no query.
    placeholder = {0 if block.sparse is None else int(block.sparse.shape[1]): 1.0}
    for start in range(0, len(block.dense), _ROWS_PER_REQUEST):
        client.insert(
            _NAME,
            [
                {
                    "row": block.start + row,
                    "dense": block.dense[row],
                    "sparse": (block.sparse is not None and _weights(block.sparse, row)) or placeholder,
                }
                for row in range(start, min(start + _ROWS_PER_REQUEST, len(block.dense)))
            ],
        )


def _search(client: Any, field: str, vectors: Sequence[Any], numbers: Rows, k: int, excluded: Rows) -> ScoredPairs:
    parts = []
    for start in range(0, len(numbers), _QUERIES_PER_REQUEST):
        group = numbers[start : start + _QUERIES_PER_REQUEST]
        found = client.search(
            _NAME,
            data=[vectors[number] for number in group],
            anns_field=field,
            search_params={"metric_type": "IP"},
            limit=k + 1,  # one of them may be excluded
        )
        for number, hits in zip(group, found, strict=True):
            document = np.array(hits.ids, dtype=np.intp)
            kept = document != excluded[number]
            score = np.array(hits.distances, dtype=np.float32)
            parts.append(ScoredPairs(np.full(int(kept.sum()), number), document[kept], score[kept]))
    return ScoredPairs.join(parts).top(k)


def _weights(matrix: Any, row: int) -> dict[int, float]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return dict(zip(matrix.indices[part].tolist(), matrix.data[part].tolist(), strict=True))
