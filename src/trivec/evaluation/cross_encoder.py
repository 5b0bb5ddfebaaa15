"""Scores of a cross-encoder for chosen query-document pairs, query by query, from the cache where they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from trivec import __version__
from trivec.encoding import warn_of_truncation
from trivec.evaluation.array_cache import ArrayCache, Arrays, content_key
from trivec.model.m3_reranker import M3Reranker
from trivec.search.exact import Float32, Rows
from trivec.support.progress import progress_bar


@dataclass(frozen=True)
class CrossEncoder:
    """A reranker with the cache of what it has scored.

    Args:
        reranker: The reranker; it reads as much of a pair as it is loaded for.
        cache: Where scores are kept.
        fingerprint: The reranker's; "" where the cache serves it alone.
        show_progress: Show a bar while scoring.
    """

    reranker: M3Reranker
    cache: ArrayCache
    fingerprint: str
    show_progress: bool = False

    @cached_property
    def identity(self) -> str:
        """A key of everything that a score depends on besides the two texts."""
        reranker = self.reranker
        return content_key([__version__, self.fingerprint, reranker.precision, str(reranker.max_length)])

    def scores(
        self, queries: Sequence[str], documents: Sequence[str], query: Rows, document: Rows, description: str
    ) -> Float32:
        """Score given pairs; at the end one warning counts those that are too long to be read whole.

        Args:
            queries: All query texts.
            documents: All document texts.
            query: (p,) query of each pair.
            document: (p,) its document.
            description: Stands before the progress bar and the warning.

        Returns:
            (p,) float32, logits.
        """
        scores = np.empty(len(query), np.float32)
        cut = 0
        with progress_bar(len(query), description, "pairs", self.show_progress) as bar:
            by_query = np.argsort(query, kind="stable")
            rows, starts = np.unique(query[by_query], return_index=True)
            # Of no pairs at all, there is one empty part.
            for row, of_query in zip(rows.tolist(), np.split(by_query, starts[1:]), strict=False):
                texts = [documents[i] for i in document[of_query]]
                key = content_key(["cross-encoder", self.identity, queries[row], *texts])
                found = self.cache.load_or_build(key, partial(self._scored, queries[row], texts))
                scores[of_query] = found["scores"]
                cut += int(found["cut"])
                bar.update(len(of_query))
        warn_of_truncation(cut, len(query), self.reranker.max_length, description, "pairs")
        return scores

    def _scored(self, query: str, texts: Sequence[str]) -> Arrays:
        settings = self.reranker.scoring_settings(show_progress=False)
        scores, cut = self.reranker.scored([(query, text) for text in texts], settings)
        return {"scores": np.array(scores, np.float32), "cut": np.array(cut)}
