"""How what a client returns is held against what the model itself gives."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trivec import M3Embeddings, M3Model, M3Reranker

TOLERANCE = 1e-5
QUESTION = "Was the compass invented in China?"  # answered by the document compass-zh
KEY = "a-key-of-these-tests"  # what the guarded server asks for


def assert_same(vectors: Any, expected: np.ndarray) -> None:
    """The same vectors in the same order."""
    got = np.array(vectors)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE


def assert_best_first(got: list[tuple[int, float]], scores: np.ndarray) -> None:
    """The best of `scores`, as (index, score), best first; which of two alike comes first is left open."""
    best = np.sort(scores)[::-1][: len(got)]
    assert np.abs(np.array([score for _, score in got]) - best).max() <= TOLERANCE
    assert np.abs(scores[[index for index, _ in got]] - best).max() <= TOLERANCE
    assert len({index for index, _ in got}) == len(got)


def fused(dense: np.ndarray, sparse: np.ndarray, limit: int) -> np.ndarray:
    """Score of each document by reciprocal rank fusion of its two scores, `limit` documents of each kind."""
    scores = np.zeros(len(dense))
    for of_kind in (dense, np.where(sparse > 0, sparse, -np.inf)):  # no shared word, no hit
        best = [i for i in np.argsort(-of_kind, kind="stable")[:limit] if of_kind[i] > -np.inf]
        scores[best] += 1 / (60 + np.arange(1, len(best) + 1))
    return scores


@dataclass
class Demo:
    """The demo's forty documents, as a framework's store should find and order them for `QUESTION`."""

    documents: list[dict[str, Any]]
    model: M3Model
    encoded: M3Embeddings

    def assert_found(self, found: Iterable[tuple[str, float]]) -> None:
        """By id and score, best first: those of hybrid search by reciprocal rank fusion of twenty of each kind."""
        query = self.model.encode([QUESTION])
        dense = self.encoded.dense @ query.dense[0]
        sparse = (self.encoded.sparse @ query.sparse.T).toarray()[:, 0]
        ids = [each["id"] for each in self.documents]
        assert_best_first([(ids.index(one), score) for one, score in found], fused(dense, sparse, 20))

    def assert_reranked(self, best: Sequence[tuple[str, float]], texts: list[str]) -> None:
        """By text and score, best first: three of `texts`, by the similarity of token vectors."""
        scores = np.array(self.model.compute_score([(QUESTION, text) for text in texts])["colbert"])
        assert_best_first([(texts.index(text), score) for text, score in best], scores)
        assert len(best) == 3

    def assert_reranked_by(self, reranker: M3Reranker, best: Iterable[tuple[str, float]]) -> None:
        """By text and score, best first: three of all documents, by a cross-encoder."""
        expected = reranker.rank(QUESTION, [each["text"] for each in self.documents], 3, normalize=True)
        assert [(text, pytest.approx(score)) for text, score in best] == [(each.text, each.score) for each in expected]


def run_documented(framework: str, dim: int) -> dict[str, Any]:
    """Run the block of docs/integrations.md for a framework, with the model nano, and return its names."""
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
    block = re.search(rf"<!-- run by make integration: {framework} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert block
    code = block[1].replace("BAAI/bge-m3", "nano").replace("dim=1024", f"dim={dim}")
    names: dict[str, Any] = {}
    exec(compile(code, f"docs/integrations.md ({framework})", "exec"), names)
    return names
