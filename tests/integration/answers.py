"""How what a client returns is held against what the model itself gives."""

import re
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-5
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


def run_documented(framework: str, dim: int) -> dict[str, Any]:
    """Run the block of docs/integrations.md for a framework, with the model nano, and return its names."""
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
    block = re.search(rf"<!-- run by make integration: {framework} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert block
    code = block[1].replace("BAAI/bge-m3", "nano").replace("dim=1024", f"dim={dim}")
    names: dict[str, Any] = {}
    exec(compile(code, f"docs/integrations.md ({framework})", "exec"), names)
    return names
