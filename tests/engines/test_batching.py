"""Batches cover every text once, stay under the token budget and waste little on padding."""

from __future__ import annotations

import numpy as np
import pytest

from trivec.engines.batching import plan_batches
from trivec.engines.openvino.engine import MOST_TOKENS

DRAW = np.random.default_rng(3)
CORPORA = {
    "mixed": DRAW.integers(5, 2000, 1024),
    "log-uniform": np.exp(DRAW.uniform(np.log(3), np.log(8192), 1024)).astype(int),
    "short queries": DRAW.integers(3, 30, 1024),
    "paragraphs": np.clip(DRAW.normal(184, 70, 1024), 10, 600).astype(int),
    "one length": np.full(100, 77),
    "a few": np.array([3, 8192, 40, 500]),
    "one": np.array([12]),
    "none": np.array([], int),
}


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("budget", [256, 4096])
def test_every_text_once_under_the_budget(name: str, budget: int) -> None:
    lengths = CORPORA[name]
    batches = plan_batches(lengths, budget)
    assert sorted(np.concatenate([*batches, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= budget


@pytest.mark.parametrize("name", ["mixed", "log-uniform", "short queries", "paragraphs"])
@pytest.mark.parametrize("budget", [MOST_TOKENS, 4096])
def test_padding_stays_under_five_percent(name: str, budget: int) -> None:
    lengths = CORPORA[name]
    padded = sum(lengths[batch].max() * len(batch) for batch in plan_batches(lengths, budget))
    assert 1 - lengths.sum() / padded < 0.05


@pytest.mark.parametrize(
    "lengths", [[3, 30, 90, 300], [497, 6, 6, 6, 6, 6, 6, 6], [5, 20, 40, 60, 80, 100], [3, 8192, 40]]
)
def test_a_few_texts_are_padded_by_a_few_tokens(lengths: list[int]) -> None:
    for batch in plan_batches(np.array(lengths), 4096):
        taken = np.array(lengths)[batch]
        assert taken.max() * len(batch) - taken.sum() <= max(64, 0.08 * taken.max() * len(batch))


def test_short_texts_share_batches() -> None:
    assert len(plan_batches(CORPORA["short queries"], 4096)) <= 16  # 64 would be 16 texts a batch
