"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hit:
    """A document that a search found.

    Attributes:
        id: The document's id.
        text: Its text.
        score: What the hits are ordered by, higher is better: the dense or the sparse score, the fused score of a
            hybrid search, or with `rerank` the late-interaction or cross-encoder score.
        metadata: The document's metadata.
        dense_score: Inner product of the dense vectors; None in a sparse search.
        sparse_score: Sum of products of the weights of shared tokens; None in a dense search.
        colbert_score: MaxSim of the token vectors divided by the query's tokens; None without `rerank="colbert"`.
        matched_words: The words it shares with the query, as the query spells them (of a word shared in part, that
            part), and what each adds to the sparse score, best first; None without `matched_words=True`.
        chunks: With `group="document"`, the chunks of the document that were found, best first; the first one's text
            and scores are the hit's own. None otherwise.
        cross_encoder_score: The reranker's, between 0 and 1; None without `rerank="cross-encoder"`.
    """

    id: str
    text: str
    score: float
    metadata: Mapping[str, Any]
    dense_score: float | None = None
    sparse_score: float | None = None
    colbert_score: float | None = None
    matched_words: tuple[tuple[str, float], ...] | None = None
    chunks: tuple[Hit, ...] | None = None
    cross_encoder_score: float | None = None

    def _repr_html_(self) -> str:
        return Hits([self])._repr_html_()


class Hits(list[Hit]):
    """The hits of one query, best first: a list, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        from trivec.search.hits_html import table_of_hits

        return table_of_hits(self)


@dataclass(frozen=True)
class RerankResult:
    """A document that a reranker was given, as pymilvus-model shows it.

    Attributes:
        text: Its text.
        score: How well it answers the query; higher is better.
        index: Its place among the documents that were given, from 0.
    """

    text: str
    score: float
    index: int

    def to_dict(self) -> dict[str, Any]:
        """Return the three by name."""
        return {"text": self.text, "score": self.score, "index": self.index}
