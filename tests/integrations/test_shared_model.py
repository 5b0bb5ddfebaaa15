"""One model for all objects of a framework, and one pass for dense and sparse vectors."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trivec import M3Model
from trivec.integrations.shared_model import _by_name as shared_models
from trivec.integrations.shared_model import load_arguments, shared_model
from trivec.integrations.untaken import Untaken
from trivec.vectors.sparse import weights_by_id

TEXTS = ["a boat", "a quiet lake", "the old bridge"]


@pytest.fixture
def model(tiny_checkpoint: Path):
    with M3Model.load(tiny_checkpoint, precision="fp32") as loaded:
        yield loaded


@pytest.fixture
def passes(model: M3Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each pass of the encoder had."""
    counted: list[int] = []
    compute = model._engine.encode

    def counting(token_ids: list[np.ndarray], *arguments: Any) -> Any:
        counted.append(len(token_ids))
        return compute(token_ids, *arguments)

    monkeypatch.setattr(model._engine, "encode", counting)
    return counted


def test_one_pass_for_both_kinds_whoever_is_asked_first(model: M3Model, passes: list[int]):
    shared = shared_model(model).wanting("dense").wanting("sparse")
    alone = model.encode(TEXTS)
    passes.clear()
    for first, second in ((shared.dense, shared.sparse), (shared.sparse, shared.dense)):
        results = {first.__name__: first(TEXTS), second.__name__: second(TEXTS)}
        assert np.abs(np.array(results["dense"]) - alone.dense).max() < 1e-6
        assert [each.keys() for each in results["sparse"]] == [weights_by_id(row).keys() for row in alone.sparse]
    assert passes == [3, 3]


def test_only_what_somebody_gives_is_computed(model: M3Model, passes: list[int]):
    shared = shared_model(model).wanting("dense")
    shared.dense(TEXTS)
    assert shared._untaken.texts("sparse") == []
    shared.sparse(TEXTS)  # by somebody who came later
    assert passes == [3, 3]


def test_one_by_one_after_many_and_in_another_order(model: M3Model, passes: list[int]):
    shared = shared_model(model).wanting("dense").wanting("sparse")
    shared.dense([*TEXTS, TEXTS[0]])
    given = [shared.sparse([text])[0] for text in (TEXTS[2], TEXTS[0], TEXTS[1], TEXTS[0])]
    assert passes == [3]
    assert given[1] == given[3] != given[0]


def test_what_is_taken_is_gone(model: M3Model):
    shared = shared_model(model).wanting("dense").wanting("sparse")
    shared.dense([*TEXTS, TEXTS[0]])
    shared.sparse(TEXTS)
    assert shared._untaken.texts("sparse") == [TEXTS[0]]  # which was there twice
    shared.sparse(TEXTS[:1])
    assert shared._untaken.texts("sparse") == []


def test_texts_in_another_wording_are_computed_ahead(model: M3Model, passes: list[int]):
    shared = shared_model(model).wanting("dense").wanting("sparse")
    shared.dense([f"title\n\n{text}" for text in TEXTS])
    given = [shared.sparse([text], reworded=lambda computed: computed.partition("\n\n")[2])[0] for text in TEXTS]
    assert passes == [3, 3]
    assert given[2].keys() == set(model.encode(TEXTS).sparse[2].indices.tolist())


def test_a_text_that_nobody_expected_is_computed_alone(model: M3Model, passes: list[int]):
    shared = shared_model(model).wanting("dense").wanting("sparse")
    shared.dense([f"title\n\n{text}" for text in TEXTS])
    shared.sparse(["something else"], reworded=lambda _: None)
    assert passes == [3, 1]


def test_awaited_calls_at_once_share_a_pass_and_one_that_is_cancelled_harms_no_other(model: M3Model, passes: list[int]):
    shared = shared_model(model).wanting("dense").wanting("sparse")

    async def work() -> None:
        dense, sparse = await asyncio.gather(shared.adense(TEXTS), shared.asparse(TEXTS))
        assert len(dense) == len(sparse) == 3
        assert sum(passes) == 3
        first = asyncio.create_task(shared.adense(TEXTS))
        second = asyncio.create_task(shared.asparse(TEXTS))
        await asyncio.sleep(0)
        first.cancel()
        assert len(await second) == 3
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(work())
    assert shared._under_way == {}


def test_threads(model: M3Model):
    shared = shared_model(model).wanting("dense").wanting("sparse")
    expected = [row.keys() for row in map(weights_by_id, model.encode(TEXTS).sparse)]
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(20):
            shared.dense(TEXTS)
            if [each.keys() for each in shared.sparse(TEXTS)] != expected:
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_oldest_go_where_nobody_asks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trivec.integrations.untaken._LIMIT", 3)
    untaken = Untaken()
    for text in "abcd":
        untaken.keep("dense", [text], np.zeros((1, 2)), Counter([text]))
    assert untaken.texts("dense") == ["b", "c", "d"]
    untaken.keep("dense", list("vwxyz"), np.zeros((5, 2)), Counter("vwxyz"))
    assert untaken.texts("dense") == list("vwxyz")  # one call's are kept whole


def test_one_model_a_name_for_as_long_as_somebody_has_it(tiny_checkpoint: Path):
    first = shared_model(tiny_checkpoint, precision="fp32")
    assert shared_model(str(tiny_checkpoint), precision="fp32") is first
    assert shared_model(tiny_checkpoint, precision="fp32", max_length=64) is not first
    assert shared_model(first.model) is first
    first.model.close()
    again = shared_model(tiny_checkpoint, precision="fp32")
    assert not again.model.closed
    identity = id(again)
    del first, again
    gc.collect()
    assert identity not in {id(each) for each in shared_models.values()}


def test_how_a_model_was_loaded(tiny_checkpoint: Path):
    with M3Model.load(tiny_checkpoint, precision="fp32", max_length=64, num_threads=1) as model:
        name, options = load_arguments(model)
        assert name == str(tiny_checkpoint)
        assert options == {"precision": "fp32", "max_length": 64, "num_threads": 1}
        assert load_arguments(model) == (name, options)  # the model is as it was
