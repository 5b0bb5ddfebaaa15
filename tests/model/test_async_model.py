"""The awaited model, in this process and on a server: the vectors, warnings and errors of `M3Model`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.conftest import metric, until
from model.test_remote_model import MANY, ODD, TEXTS, TOLERANCE, assert_same_bits
from serving import Served, serving
from trivec import AsyncM3Model, M3Embedding, M3Model
from trivec.encoding import TruncationWarning
from trivec.errors import ServerError, TrivecError

Test = Callable[[AsyncM3Model], Awaitable[Any]]


@pytest.fixture(params=["here", "server"])
def source(request: pytest.FixtureRequest, tiny_checkpoint: Path, model_server: Served) -> dict[str, Any]:
    if request.param == "here":
        return {"name_or_path": tiny_checkpoint, "precision": "fp32"}
    return {"name_or_path": model_server.url}


def run(source: dict[str, Any], test: Test) -> Any:
    async def with_model() -> Any:
        async with await AsyncM3Model.load(**source) as model:
            return await test(model)

    return asyncio.run(with_model())


def test_vectors_and_scores_are_those_of_the_model(source: dict[str, Any], tiny_model: M3Model) -> None:
    async def test(model: AsyncM3Model) -> None:
        assert model.dim == tiny_model.dim
        assert repr(model).startswith("<AsyncM3Model '")
        for options in ({}, {"return_colbert_vecs": True}, {"return_dense": False, "normalize": False}):
            for texts in (TEXTS, ODD, []):
                assert_same_bits(await model.encode(texts, **options), tiny_model.encode(texts, **options))
        pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
        assert await model.compute_score(pairs[0]) == pytest.approx(tiny_model.compute_score(pairs[0]), abs=TOLERANCE)
        for mode, scores in (await model.compute_score(pairs, (1, 2, 3))).items():
            assert scores == pytest.approx(tiny_model.compute_score(pairs, (1, 2, 3))[mode], abs=TOLERANCE)
        assert await model.token_weights(TEXTS[0]) == tiny_model.token_weights(TEXTS[0])

    run(source, test)


def test_calls_at_once_are_not_mixed_up(source: dict[str, Any], tiny_model: M3Model) -> None:
    wanted = tiny_model.encode(MANY, return_colbert_vecs=True)

    async def test(model: AsyncM3Model) -> None:
        queries = [model.encode([text], return_colbert_vecs=i % 3 == 0) for i, text in enumerate(MANY)]
        bulk, *found = await asyncio.gather(model.encode(MANY), *queries)
        assert np.abs(bulk.dense - wanted.dense).max() <= TOLERANCE
        for i, one in enumerate(found):
            assert np.abs(one.dense[0] - wanted.dense[i]).max() <= TOLERANCE
            if i % 3 == 0:
                assert np.abs(one.colbert_vecs[0] - wanted.colbert_vecs[i]).max() <= TOLERANCE

    run(source, test)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream(asynchronous: bool, source: dict[str, Any], tiny_model: M3Model) -> None:
    wanted = tiny_model.encode(MANY)

    async def lines() -> AsyncIterator[str]:
        for text in MANY:
            await asyncio.sleep(0)
            yield text

    async def test(model: AsyncM3Model) -> list[M3Embedding]:
        return [one async for one in model.encode_stream(lines() if asynchronous else iter(MANY))]

    found = run(source, test)
    assert np.abs(np.stack([one.dense for one in found]) - wanted.dense).max() <= TOLERANCE
    assert abs(found[-1].sparse - wanted.sparse[-1]).max() <= TOLERANCE


@pytest.mark.parametrize("count", [0, 5, 32, 100])
def test_a_stream_that_fails_loses_nothing_before(count: int, source: dict[str, Any]) -> None:
    async def failing() -> AsyncIterator[str]:
        for text in MANY[:count]:
            yield text
        raise OSError("the disk is gone")

    async def test(model: AsyncM3Model) -> None:
        received = []
        with pytest.raises(OSError, match="the disk is gone"):  # noqa: PT012 -- there is no shorter way
            async for one in model.encode_stream(failing()):
                received.append(one)
        assert len(received) == count

    run(source, test)


def test_texts_that_were_cut_are_told_at_the_line_that_awaits(
    source: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    texts = ["a b c d e", "a"] * 20

    async def test(model: AsyncM3Model) -> None:
        assert (await model.encode(texts, max_length=4)).cut == set(range(0, 40, 2))
        assert [one.truncated async for one in model.encode_stream(texts, max_length=4)] == [True, False] * 20
        await model.compute_score([("a", "a b c d e")], max_length=4)
        await asyncio.gather(model.encode(texts, max_length=4))

    run(source, test)
    told = [each.message.args[0].split()[0] for each in recwarn if each.category is TruncationWarning]
    assert told == ["20", "20", "1", "20"]
    assert {each.filename for each in recwarn} == {__file__}


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.encode("bare"),
        lambda model: model.encode(["a", None]),
        lambda model: model.encode(["a"], max_length=1),
        lambda model: model.encode(["a"], return_dense=False, return_sparse=False),
        lambda model: model.compute_score([("a", None)]),
        lambda model: model.compute_score([("a", "b")], weights=(1, 1)),
    ],
)
def test_errors_are_the_same(call: Callable[[Any], Any], source: dict[str, Any], tiny_model: M3Model) -> None:
    with pytest.raises((TypeError, ValueError)) as of_plain:
        call(tiny_model)

    async def test(model: AsyncM3Model) -> None:
        with pytest.raises(type(of_plain.value)) as of_awaited:
            await call(model)
        assert str(of_awaited.value) == str(of_plain.value)
        with pytest.raises(TypeError, match="bare str"):  # at once, not when the first is asked for
            model.encode_stream("bare")

        async def wrong() -> AsyncIterator[Any]:
            yield "a"
            yield 2.5

        with pytest.raises(TypeError, match=r"texts\[1\] is 2.5"):
            [one async for one in model.encode_stream(wrong())]

    run(source, test)


def test_cancelling_gives_the_place_in_the_queue_back(source: dict[str, Any], model_server: Served) -> None:
    def waiting(model: AsyncM3Model) -> float:
        if str(source["name_or_path"]).startswith("http"):
            return metric(model_server, "trivec_queue_tokens")
        return model._computing._scheduler.get().waiting_tokens

    async def come(condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(until, condition)

    async def test(model: AsyncM3Model) -> None:
        async def taken() -> int:
            return len([one async for one in model.encode_stream(["boat " * 200] * 600)])

        calls = [asyncio.create_task(model.encode(["boat " * 200] * 600)) for _ in range(4)]
        calls.append(asyncio.create_task(taken()))
        await come(lambda: waiting(model) > 0)
        for call in calls:
            call.cancel()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError)
        await come(lambda: waiting(model) == 0)
        assert len(await model.encode(["a"])) == 1

    run(source, test)


def test_a_model_outlives_a_loop(source: dict[str, Any]) -> None:
    model = asyncio.run(AsyncM3Model.load(**source))
    for _ in range(2):
        assert len(asyncio.run(model.encode(["a"]))) == 1
    asyncio.run(model.close())
    with pytest.raises(TrivecError, match="the model is closed: load it again"):
        asyncio.run(model.encode(["a"]))


FORK = """
import asyncio, os, signal, sys, warnings
from trivec import AsyncM3Model
warnings.simplefilter("ignore")
model = asyncio.run(AsyncM3Model.load(sys.argv[1]))
texts = [f"{i} boats" for i in range(50)]
wanted = asyncio.run(model.encode(texts)).dense
child = os.fork()
if child == 0:
    signal.alarm(40)
    assert abs(asyncio.run(model.encode(texts)).dense - wanted).max() <= 1e-5
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert abs(asyncio.run(model.encode(texts)).dense - wanted).max() <= 1e-5
"""


def test_a_model_used_before_a_fork(source: dict[str, Any]) -> None:
    code = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(source["name_or_path"])]
    done = subprocess.run(code, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_closing_ends_what_is_under_way(tiny_checkpoint: Path) -> None:
    async def test(model: AsyncM3Model) -> None:
        call = asyncio.create_task(model.encode(["boat " * 200] * 500))
        await asyncio.to_thread(until, lambda: model._computing._scheduler.get().waiting_tokens > 0)
        await model.close()
        with pytest.raises(TrivecError):
            await call

    run({"name_or_path": tiny_checkpoint}, test)


def test_a_stream_reads_no_further_than_needed(source: dict[str, Any]) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield MANY[read % len(MANY)]

    async def test(model: AsyncM3Model) -> None:
        async with aclosing(model.encode_stream(endless())) as stream:
            for _ in range(40):
                await anext(stream)

    run(source, test)
    assert read <= 5 * 1024


def test_a_server_that_is_gone_is_told(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivec.model.http_connection.PATIENCE", 0.5)
    with serving(tiny_checkpoint) as served:
        model = asyncio.run(AsyncM3Model.load(served.url))
    for texts in (["a"], MANY):
        with pytest.raises(ServerError, match=f"{served.url} cannot be reached"):
            asyncio.run(model.encode(texts))
