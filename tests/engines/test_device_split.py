"""Engines that share the work give what one gives, and what one of them raises reaches the caller."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec import M3Model
from trivec.engines import EncodedBatch, Heads
from trivec.engines.device_split import DeviceSplit, deal
from trivec.errors import TrivecError

TEXTS = [text for texts in SENTENCES.values() for text in texts]


@pytest.fixture
def models(tiny_checkpoint: Path) -> Iterator[list[M3Model]]:
    loaded = [M3Model.load(tiny_checkpoint, precision="fp32", num_threads=1) for _ in range(2)]
    yield loaded
    for model in loaded:
        model.close()


@pytest.mark.parametrize("hands", [1, 2, 3, 8])
def test_dealing_gives_everybody_as_much(hands: int) -> None:
    lengths = np.random.default_rng(2).integers(3, 2000, 300).tolist()
    shares = deal(lengths, hands)
    assert sorted(np.concatenate(shares).tolist()) == list(range(300))
    tokens = [sum(lengths[i] for i in share) for share in shares]
    assert max(tokens) - min(tokens) <= 2000
    assert [len(share) for share in deal([5], hands)] == [1] + [0] * (hands - 1)


@pytest.mark.parametrize("count", [1, 2, len(TEXTS)])
def test_two_engines_give_every_text_once(count: int, models: list[M3Model], tiny_model: M3Model) -> None:
    token_ids = tiny_model.tokenizer.encode_batch(TEXTS[:count], 1024).token_ids
    wanted = tiny_model.encode(TEXTS[:count]).dense
    seen = []
    for texts, batch in DeviceSplit([model._engine for model in models]).encode(token_ids, Heads(), 256):
        seen.extend(texts.tolist())
        assert np.abs(batch.dense - wanted[texts]).max() <= 1e-5
    assert sorted(seen) == list(range(count))


class Noting:
    """Notes which thread asks an engine for how many texts."""

    precision, batch_tokens = "fp32", 1024

    def __init__(self, model: M3Model) -> None:
        self.engine, self.calls = model._engine, []

    def encode(
        self, token_ids: list[np.ndarray], heads: Heads, max_batch_tokens: int | None
    ) -> Iterator[tuple[np.ndarray, EncodedBatch]]:
        self.calls.append((threading.current_thread(), len(token_ids)))
        return self.engine.encode(token_ids, heads, max_batch_tokens)


def test_a_lone_text_stays_in_the_callers_thread_and_goes_to_each_engine_in_turn(
    models: list[M3Model], tiny_model: M3Model
) -> None:
    token_ids = tiny_model.tokenizer.encode_batch(TEXTS[:3], 1024).token_ids
    engines = [Noting(model) for model in models]
    split = DeviceSplit(engines)
    for _ in range(4):
        assert len(list(split.encode(token_ids[:1], Heads(), 256))) == 1
    assert [engine.calls for engine in engines] == [[(threading.main_thread(), 1)] * 2] * 2
    for _ in range(2):
        list(split.encode(token_ids, Heads(), 256))
    assert [sorted(n for _, n in engine.calls[2:]) for engine in engines] == [[1, 2]] * 2


def test_an_error_on_one_device_is_the_callers(models: list[M3Model], tiny_model: M3Model) -> None:
    token_ids = tiny_model.tokenizer.encode_batch(TEXTS, 1024).token_ids
    split = DeviceSplit([model._engine for model in models])
    models[1].close()
    with pytest.raises(TrivecError, match="the model is closed"):
        list(split.encode(token_ids, Heads(), 256))
    assert not [thread for thread in threading.enumerate() if thread.name == "trivec-device"]


def test_threads_end_when_nobody_wants_the_rest(models: list[M3Model], tiny_model: M3Model) -> None:
    token_ids = tiny_model.tokenizer.encode_batch(TEXTS, 1024).token_ids
    batches = DeviceSplit([model._engine for model in models]).encode(token_ids, Heads(), 32)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "trivec-device"]
