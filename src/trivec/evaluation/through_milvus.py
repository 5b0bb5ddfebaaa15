"""Two modes through Milvus as well: `multi` and `all` of a collection, beside `multi-vector` and `all` in memory.

The collection is made for it, keeps token vectors as asked, and is searched with as many candidates as the ranking in
memory has. What is found in memory and through Milvus then differs by what storing costs, and no more.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trivec.encoding import TruncationWarning
from trivec.search.exact import Rows, ScoredPairs
from trivec.search.fusion import FusionWeights
from trivec.search.modes import Mode
from trivec.support.extras import require
from trivec.vectors.token_forms import TokenForm

if TYPE_CHECKING:
    from trivec.milvus import M3Collection
    from trivec.model import M3Model

_NAME = "evaluated"
# Queries searched at once; their hits are held with their texts.
_QUERIES = 50

MODES: dict[str, Mode] = {"multi (Milvus)": "multi", "all (Milvus)": "all"}
"""Modes of `M3Collection.search` by what a table calls them."""


@dataclass(frozen=True)
class ThroughMilvus:
    """How to search through Milvus.

    Attributes:
        token_vectors: "fp16" or "int8".
        pool: By what factor they are pooled.
    """

    token_vectors: TokenForm
    pool: int = 1

    @contextmanager
    def collection(
        self, model: M3Model, documents: Sequence[str], max_batch_tokens: int | None, max_length: int | None
    ) -> Iterator[M3Collection]:
        """Store documents, whose ids are their row numbers, in a Milvus Lite file that is deleted afterwards.

        Raises:
            MissingExtraError: `pymilvus` or `milvus-lite` is not installed.
            DocumentError: A document is longer than Milvus holds.
        """
        require("milvus_lite")
        from trivec.milvus import M3Collection

        with (
            tempfile.TemporaryDirectory(prefix="trivec-") as folder,
            M3Collection(
                _NAME, model, Path(folder) / "evaluated.db", token_vectors=self.token_vectors, pool=self.pool
            ) as opened,
        ):
            rows = ({"id": str(row), "text": text} for row, text in enumerate(documents))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TruncationWarning)  # the modes in memory warn of these texts
                opened.add(rows, max_batch_tokens=max_batch_tokens, max_length=max_length, show_progress=False)
            yield opened


def search(
    collection: M3Collection,
    mode: Mode,
    queries: Sequence[str],
    excluded: Rows,
    candidates: int,
    weights: FusionWeights,
) -> ScoredPairs:
    """Rank the documents of a collection for every query.

    Args:
        collection: As `ThroughMilvus.collection` made it.
        mode: "multi" or "all".
        queries: Their texts.
        excluded: (queries,) row of the document that each query must not find, or -1.
        candidates: Length of every ranking, and rows that each search brings.
        weights: Of dense, sparse and multi-vector score in "all".

    Returns:
        The hits, by query.
    """
    found = []
    depth = candidates + bool((excluded >= 0).any())
    own = weights if mode == "all" else None
    for start in range(0, len(queries), _QUERIES):
        part = list(queries[start : start + _QUERIES])
        hits = collection.search(part, mode, limit=depth, candidates=depth, weights=own)
        for number, of_query in enumerate(hits, start):
            kept = [hit for hit in of_query if int(hit.id) != excluded[number]]
            rows = np.array([int(hit.id) for hit in kept], dtype=np.intp)
            scores = np.array([hit.score for hit in kept], dtype=np.float32)
            found.append(ScoredPairs(np.full(len(rows), number, dtype=np.intp), rows, scores))
    return ScoredPairs.join(found)
