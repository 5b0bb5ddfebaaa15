"""The queue before the engine: the vectors of encoding, short requests first, room given back, nothing that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec import M3Embeddings, M3Model
from trivec.engines import Engine
from trivec.errors import TrivecError
from trivec.scheduling.requests import OverloadedError, StoppedError
from trivec.scheduling.scheduler import Scheduler

WORDS = " ".join(sentence for sentences in SENTENCES.values() for sentence in sentences).split()


def texts_of(sizes: list[int]) -> list[str]:
    """Texts of so many words each, no two alike."""
    return [" ".join(WORDS[(7 * i + k) % len(WORDS)] for k in range(size)) for i, size in enumerate(sizes)]


class Gated:
    """An engine that notes the texts of each call, and computes a batch whenever the gate lets it."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.precision, self.batch_tokens = engine, engine.precision, engine.batch_tokens
        self.calls: list[int] = []
        self.gate = threading.Semaphore(0)
        self.error: BaseException | None = None

    def open(self) -> None:
        self.gate.release(1_000_000)

    def encode(self, token_ids: list[np.ndarray], *rest: Any) -> Iterator[Any]:
        self.calls.append(len(token_ids))
        for batch in self.engine.encode(token_ids, *rest):
            self.gate.acquire()
            if self.error is not None:
                raise self.error
            yield batch

    def close(self) -> None:
        """Nothing to close: the model's engine lives on."""


@pytest.fixture
def scheduler(tiny_model: M3Model) -> Iterator[Scheduler]:
    scheduler = tiny_model.scheduler()
    yield scheduler
    scheduler.stop()


@pytest.fixture
def gated(tiny_model: M3Model) -> Iterator[tuple[Gated, Callable[..., Scheduler]]]:
    engine = Gated(tiny_model._engine)
    made: list[Scheduler] = []

    def make(**options: Any) -> Scheduler:
        made.append(Scheduler(tiny_model.tokenizer, lambda: engine, tiny_model.dim, **options))
        return made[-1]

    yield engine, make
    engine.open()
    for scheduler in made:
        scheduler.stop()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 30 s"
        time.sleep(0.001)


def assert_same(found: M3Embeddings, expected: M3Embeddings, tolerance: float = 0.0) -> None:
    assert len(found) == len(expected)
    assert found.cut == expected.cut
    for kind in ("dense", "sparse", "colbert_vecs"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        assert (ours is None) == (theirs is None)
        if theirs is None:
            continue
        if kind == "sparse":
            assert ours.shape == theirs.shape
            assert ours.indptr.tolist() == theirs.indptr.tolist()
            assert ours.indices.tolist() == theirs.indices.tolist()
            ours, theirs = [ours.data], [theirs.data]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("n", [1, 3, 1500])
@pytest.mark.parametrize("colbert", [False, True])
def test_alone_a_request_has_the_bits_of_encode(
    scheduler: Scheduler, tiny_model: M3Model, n: int, colbert: bool
) -> None:
    texts = texts_of([5 + 37 * i % 90 for i in range(n)])
    settings = tiny_model.encoding_settings(return_colbert_vecs=colbert)
    expected = tiny_model.encode(texts, return_colbert_vecs=colbert)
    answer = scheduler.submit(texts, settings)
    assert_same(answer.result(60), expected)
    assert answer.tokens == sum(len(ids) for ids in tiny_model.tokenizer.encode_batch(texts, 1024).token_ids)


def test_no_texts_give_no_vectors(scheduler: Scheduler, tiny_model: M3Model) -> None:
    found = scheduler.submit([], tiny_model.encoding_settings(return_colbert_vecs=True)).result(60)
    assert_same(found, tiny_model.encode([], return_colbert_vecs=True))
    assert scheduler.waiting_tokens == 0


def test_many_requests_of_all_kinds_each_get_their_own_vectors(tiny_model: M3Model, scheduler: Scheduler) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"return_sparse": False},
        {"return_dense": False},
        {"return_colbert_vecs": True},
        {"normalize": False},
        {"max_length": 8},
        {"return_colbert_vecs": True, "return_dense": False, "max_length": 16},
    ]
    requests = []
    for i in range(210):
        texts = texts_of([3 + (7 * i + 13 * k) % 60 for k in range(1 + i % 4 + 300 * (i % 50 == 49))])
        requests.append(([f"{i} {text}" for text in texts], options[i % len(options)]))
    answers = [scheduler.submit(texts, tiny_model.encoding_settings(**given)) for texts, given in requests]
    for answer, (texts, given) in zip(answers, requests, strict=True):
        with pytest.warns() if given.get("max_length") else nullcontext():
            expected = tiny_model.encode(texts, **given)
        assert_same(answer.result(60), expected, 1e-5)
    assert scheduler.waiting_tokens == 0


def test_short_requests_share_a_batch_and_go_before_the_rest_of_a_long_one(tiny_model: M3Model, gated: Any) -> None:
    engine, make = gated
    scheduler = make()
    settings = tiny_model.encoding_settings()
    long = scheduler.submit(texts_of([200] * 100), settings)
    until(lambda: engine.calls == [100])
    short = [scheduler.submit([f"query {i}"], settings) for i in range(20)]
    until(lambda: scheduler._tokenized.qsize() == 20)
    engine.open()
    wait(short, 30)
    assert not long.done() or engine.calls[:2] == [100, 20]
    assert engine.calls[:2] == [100, 20]
    long.result(60)


def test_a_long_request_is_not_passed_over_for_ever(tiny_model: M3Model, scheduler: Scheduler) -> None:
    settings = tiny_model.encoding_settings()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            wait([scheduler.submit(["a short one"] * 20, settings) for _ in range(4)], 30)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        assert len(scheduler.submit(texts_of([300] * 12), settings).result(60)) == 12
    finally:
        over.set()
        for asker in askers:
            asker.join()


def test_short_ones_do_not_wait_for_long_ones_that_are_out_of_patience(
    tiny_model: M3Model, gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivec.scheduling.scheduler._PATIENCE", 0.0)  # as where a batch takes seconds
    engine, make = gated
    scheduler = make()
    settings = tiny_model.encoding_settings()
    long = [scheduler.submit(texts_of([200] * 100), settings) for _ in range(3)]
    until(lambda: engine.calls == [100])
    short = scheduler.submit(["a short one"], settings)
    until(lambda: scheduler._tokenized.qsize() == 3)
    engine.gate.release(3)
    short.result(30)
    assert not any(answer.done() for answer in long)


def test_a_short_one_is_tokenized_between_the_pieces_of_a_long_one(tiny_model: M3Model) -> None:
    pieces: list[int] = []

    class Slow:
        """The tokenizer, in no hurry."""

        def encode_batch(self, texts: list[str], max_length: int) -> Any:
            pieces.append(len(texts))
            time.sleep(0.02)
            return tiny_model.tokenizer.encode_batch(texts, max_length)

    settings = tiny_model.encoding_settings()
    scheduler = Scheduler(Slow(), lambda: tiny_model._engine, tiny_model.dim)
    texts = texts_of([200] * 1000)
    long = scheduler.submit(texts, settings)
    until(lambda: len(pieces) > 1)
    scheduler.submit(["a short one"], settings).result(30)
    assert sum(pieces) < 1000
    assert_same(long.result(60), tiny_model.encode(texts))
    assert sum(pieces) == 1001
    scheduler.stop()


def test_beyond_the_limit_a_request_is_refused_until_there_is_room(tiny_model: M3Model, gated: Any) -> None:
    engine, make = gated
    scheduler = make(max_queue_tokens=100)
    settings = tiny_model.encoding_settings()
    first = scheduler.submit(texts_of([90]), settings)
    with pytest.raises(OverloadedError, match="the queue holds 100: ask again in 1 s") as refused:
        scheduler.submit(texts_of([90]), settings)
    assert refused.value.retry_after >= 1
    engine.open()
    first.result(30)
    # One that is larger than the queue is taken where nothing waits: else it would never be.
    assert len(scheduler.submit(texts_of([90] * 5), settings).result(30)) == 5
    assert scheduler.waiting_tokens == 0


@pytest.mark.parametrize("lengths", [[10], [200] * 50])
def test_cancelling_gives_the_place_back_and_is_not_computed(
    tiny_model: M3Model, gated: Any, lengths: list[int]
) -> None:
    engine, make = gated
    scheduler = make()
    settings = tiny_model.encoding_settings()
    before = scheduler.submit(["the one at work"], settings)
    until(lambda: engine.calls == [1])
    gone = scheduler.submit(texts_of(lengths), settings)
    assert gone.cancel()
    engine.open()
    before.result(30)
    assert len(scheduler.submit(["a", "b"], settings).result(30)) == 2
    assert engine.calls == [1, 2]
    assert scheduler.waiting_tokens == 0
    with pytest.raises(CancelledError):
        gone.result(1)


def test_an_error_of_one_text_is_told_to_its_sender_only(tiny_model: M3Model, gated: Any) -> None:
    engine, make = gated
    scheduler = make()
    settings = tiny_model.encoding_settings()
    engine.open()
    engine.error = TrivecError("these weights give no numbers")
    with pytest.raises(TrivecError, match="these weights give no numbers"):
        scheduler.submit(["a"], settings).result(30)
    engine.error = None
    assert len(scheduler.submit(["a"], settings).result(30)) == 1


def test_when_the_engine_fails_everybody_is_told(tiny_model: M3Model, gated: Any) -> None:
    engine, make = gated
    told: list[BaseException] = []
    scheduler = make(on_failure=told.append)
    settings = tiny_model.encoding_settings()
    waiting = [scheduler.submit(texts_of([length]), settings) for length in (10, 500, 20)]
    engine.error = RuntimeError("out of memory")
    engine.open()
    for answer in waiting:
        with pytest.raises(StoppedError, match="out of memory"):
            answer.result(30)
    with pytest.raises(StoppedError, match="out of memory"):
        scheduler.submit(["a"], settings)
    assert [str(error) for error in told] == ["out of memory"]


def test_stopping_computes_what_was_admitted_within_its_time(tiny_model: M3Model, gated: Any) -> None:
    engine, make = gated
    scheduler = make()
    settings = tiny_model.encoding_settings()
    answer = scheduler.submit(["a"], settings)
    stopping = threading.Thread(target=scheduler.stop, args=[30])
    stopping.start()
    until(lambda: scheduler._stopping)
    with pytest.raises(StoppedError, match="ask again later"):
        scheduler.submit(["b"], settings)
    engine.open()
    stopping.join(30)
    assert len(answer.result(0)) == 1


def test_stopping_fails_what_is_left(tiny_model: M3Model, gated: Any) -> None:
    engine, make = gated
    scheduler = make()
    settings = tiny_model.encoding_settings()
    answers = [scheduler.submit(texts_of([length]), settings) for length in (10, 500, 20)]
    until(lambda: bool(engine.calls))
    stopping = threading.Thread(target=scheduler.stop)
    stopping.start()
    for answer in answers:
        with pytest.raises(StoppedError):
            answer.result(30)
    engine.open()
    stopping.join(30)
    assert not stopping.is_alive()
