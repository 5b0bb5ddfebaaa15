"""A model on a server is a model: the same vectors, scores, warnings and errors, without what computes them."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from model.conftest import metric, until
from sample_texts import SENTENCES
from serving import Served
from trivec import M3Embedding, M3Embeddings, M3Model
from trivec.encoding import TruncationWarning
from trivec.errors import TrivecError

TEXTS = [text for texts in SENTENCES.values() for text in texts][:20]
ODD = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud83d",
    '"quoted" \\ {}',
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "สวัสดีครับ",
    "\u2028\ufeff",
    "<s> <mask> </s>",
]
MANY = [f"{i} boats cross the lake" + " slowly" * (i % 7) for i in range(150)]
TOLERANCE = 1e-5


def assert_same_bits(found: M3Embeddings, wanted: M3Embeddings) -> None:
    assert len(found) == len(wanted)
    assert found.cut == wanted.cut
    assert (found.dense is None) == (wanted.dense is None)
    assert (found.sparse is None) == (wanted.sparse is None)
    assert (found.colbert_vecs is None) == (wanted.colbert_vecs is None)
    if wanted.dense is not None:
        assert found.dense.dtype == np.float32
        assert np.array_equal(found.dense, wanted.dense)
    if wanted.sparse is not None:
        assert (type(found.sparse), found.sparse.shape) == (type(wanted.sparse), wanted.sparse.shape)
        for part in ("data", "indices", "indptr"):
            assert np.array_equal(getattr(found.sparse, part), getattr(wanted.sparse, part))
            assert getattr(found.sparse, part).dtype == getattr(wanted.sparse, part).dtype
    for one, other in zip(found.colbert_vecs or (), wanted.colbert_vecs or (), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_colbert_vecs": True},
        {"return_dense": False},
        {"return_sparse": False, "normalize": False},
        {"mcls": 4},
        {"return_dense": False, "return_sparse": False, "return_colbert_vecs": True, "max_length": 5},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.* texts had more")
def test_every_bit_arrives(options: dict[str, Any], remote: M3Model, tiny_model: M3Model) -> None:
    for texts in (TEXTS, ODD, TEXTS[:1]):
        assert_same_bits(remote.encode(texts, **options), tiny_model.encode(texts, **options))


def test_what_the_model_is(remote: M3Model, tiny_model: M3Model, model_server: Served) -> None:
    for name in ("dim", "precision", "max_length", "has_sparse", "has_colbert", "fusion_weights", "fingerprint"):
        assert getattr(remote, name) == getattr(tiny_model, name)
    assert remote.own_fusion_weights is None
    assert remote.name == model_server.url
    assert repr(remote).startswith(f"<M3Model '{model_server.url}', which serves '")
    assert isinstance(remote, M3Model)
    for name in ("checkpoint", "config"):
        with pytest.raises(AttributeError, match="has the model's files"):
            getattr(remote, name)


def test_vectors_can_be_written_to(remote: M3Model) -> None:
    embeddings = remote.encode(TEXTS[:2], return_colbert_vecs=True)
    for array in (embeddings.dense, embeddings.sparse.data, embeddings.colbert_vecs[0]):
        assert array.flags.writeable


def test_no_text_at_all(remote: M3Model, tiny_model: M3Model) -> None:
    assert_same_bits(remote.encode([], return_colbert_vecs=True), tiny_model.encode([], return_colbert_vecs=True))
    assert list(remote.encode_stream([])) == []
    assert remote.compute_score([]) == tiny_model.compute_score([])


def test_several_requests_come_in_the_order_of_the_texts(remote: M3Model, tiny_model: M3Model) -> None:
    found = remote.encode(iter(MANY), return_colbert_vecs=True)
    wanted = tiny_model.encode(MANY, return_colbert_vecs=True)
    assert np.abs(found.dense - wanted.dense).max() <= TOLERANCE
    assert abs(found.sparse - wanted.sparse).max() <= TOLERANCE
    assert all(np.abs(a - b).max() <= TOLERANCE for a, b in zip(found.colbert_vecs, wanted.colbert_vecs, strict=True))
    streamed = [embedding.dense for embedding in remote.encode_stream(MANY)]
    assert np.abs(np.stack(streamed) - wanted.dense).max() <= TOLERANCE


def test_texts_that_were_cut_are_told_where_trivec_was_called(
    remote: M3Model, recwarn: pytest.WarningsRecorder
) -> None:
    texts = ["a b c d e" if i % 7 == 3 else "a" for i in range(70)]
    assert remote.encode(texts, max_length=4).cut == {i for i in range(70) if i % 7 == 3}
    assert sum(each.truncated for each in remote.encode_stream(texts, max_length=4)) == 10
    remote.compute_score([("a", "a b c d e")] * 40, max_length=4)
    told = [(each.message.truncated, each.message.total, each.message.max_length) for each in recwarn]
    assert told == [(10, 70, 4), (10, 70, 4), (40, 80, 4)]
    assert {(each.category, each.filename) for each in recwarn} == {(TruncationWarning, __file__)}


def test_the_length_given_to_load_holds(model_server: Served, tiny_model: M3Model) -> None:
    with M3Model.load(model_server.url, max_length=5) as model, pytest.warns(TruncationWarning, match="max_length=5"):
        assert_same_bits(model.encode(TEXTS), tiny_model.encode(TEXTS, max_length=5))
    with pytest.raises(ValueError, match="max_length=9999 must lie between 2 and the model's limit of 1024"):
        M3Model.load(model_server.url, max_length=9999)


@pytest.mark.parametrize("weights", [None, (0.4, 0.2, 0.4), (0, 0, 1)])
def test_scores(weights: Any, remote: M3Model, tiny_model: M3Model) -> None:
    pairs = [(TEXTS[i], TEXTS[-i]) for i in range(1, 15)]
    found, wanted = (model.compute_score(pairs, weights) for model in (remote, tiny_model))
    assert list(found) == list(wanted)
    for mode, scores in wanted.items():
        assert found[mode] == pytest.approx(scores, abs=TOLERANCE, nan_ok=True)
    one = remote.compute_score(pairs[3], weights)
    assert {mode: type(score) for mode, score in one.items()} == dict.fromkeys(wanted, float)
    assert math.isnan(one["sparse+dense"]) == (weights == (0, 0, 1))
    many = [(text, MANY[0]) for text in MANY]
    assert remote.compute_score(many)["colbert"] == pytest.approx(tiny_model.compute_score(many)["colbert"], abs=1e-5)


def test_token_weights(remote: M3Model, tiny_model: M3Model) -> None:
    for text in (*TEXTS, *ODD):
        assert remote.token_weights(text) == tiny_model.token_weights(text)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.encode("bare"),
        lambda model: model.encode_stream("bare"),
        lambda model: model.encode(["a", None]),
        lambda model: list(model.encode_stream(["a", 2.5])),
        lambda model: model.encode({"text": "a"}),
        lambda model: model.encode(["a"], max_length=1),
        lambda model: model.encode(["a"], max_length=1025),
        lambda model: model.encode(["a"], max_batch_tokens=0),
        lambda model: model.encode(["a"], normalize="no"),
        lambda model: model.encode(["a"], return_dense=False, return_sparse=False),
        lambda model: model.compute_score([("a", None)]),
        lambda model: model.compute_score([("a", "b")], weights=(1, 1)),
        lambda model: model.token_weights(3),
    ],
)
def test_errors_are_the_same(call: Callable[[M3Model], object], remote: M3Model, tiny_model: M3Model) -> None:
    with pytest.raises(Exception) as of_local:  # noqa: PT011 -- whatever it is, the other is the same
        call(tiny_model)
    with pytest.raises(type(of_local.value)) as of_remote:
        call(remote)
    assert str(of_remote.value) == str(of_local.value)


def test_a_stream_that_fails_loses_nothing_before(remote: M3Model) -> None:
    for count in (0, 5, 32, 100):
        received: list[M3Embedding] = []

        def failing(count: int = count) -> Iterator[str]:
            yield from MANY[:count]
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            received.extend(remote.encode_stream(failing()))
        assert len(received) == count


def test_a_stream_reads_no_further_than_needed(remote: M3Model) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield MANY[read % len(MANY)]

    stream = remote.encode_stream(endless())
    for _ in range(40):
        next(stream)
    assert read <= 6 * 32


def test_a_stream_that_is_left_takes_its_texts_out_of_the_queue(remote: M3Model, model_server: Served) -> None:
    before = metric(model_server, "trivec_texts_count")
    stream = remote.encode_stream(["boat " * 200] * 320)
    next(stream)
    stream.close()
    until(lambda: metric(model_server, "trivec_queue_tokens") == 0)
    assert metric(model_server, "trivec_texts_count") - before < 320


def test_threads_share_a_model(remote: M3Model, tiny_model: M3Model) -> None:
    wanted = tiny_model.encode(TEXTS)

    def encode(start: int) -> float:
        return float(np.abs(remote.encode(TEXTS[start:]).dense - wanted.dense[start:]).max())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(encode, [i % 20 for i in range(60)])) <= TOLERANCE


def test_a_model_travels_as_its_url(remote: M3Model, tiny_model: M3Model) -> None:
    received = pickle.loads(pickle.dumps(remote))
    assert received.name == remote.name
    assert_same_bits(received.encode(TEXTS), tiny_model.encode(TEXTS))
    assert pickle.loads(pickle.dumps(remote)) is received


def _encoded(model: M3Model, results: Any) -> None:
    results.put(model.encode(TEXTS).dense)


def test_a_forked_child_has_connections_of_its_own(remote: M3Model) -> None:
    wanted = remote.encode(TEXTS).dense
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    children = [context.Process(target=_encoded, args=(remote, results)) for _ in range(3)]
    for child in children:
        child.start()
    for _ in range(20):  # meanwhile, on the parent's connections
        assert np.abs(remote.encode(TEXTS).dense - wanted).max() <= TOLERANCE
    for child in children:
        assert np.abs(results.get() - wanted).max() <= TOLERANCE
        child.join(30)
        assert child.exitcode == 0


def test_a_closed_model_says_so(model_server: Served) -> None:
    with M3Model.load(model_server.url) as model:
        model.encode(["a"])
    for call in (lambda: model.encode(["a"]), lambda: model.compute_score(("a", "b")), lambda: model.fingerprint):
        with pytest.raises(TrivecError, match="the model is closed: load it again"):
            call()
    assert "closed" in repr(model)


def test_nothing_is_left_open(model_server: Served) -> None:
    code = (
        "import asyncio; from trivec import AsyncM3Model, M3Model\n"
        f"with M3Model.load({model_server.url!r}) as model:\n"
        "    model.encode(['a'] * 70); next(model.encode_stream(['a'] * 70))\n"
        "async def awaited():\n"
        f"    async with await AsyncM3Model.load({model_server.url!r}) as model:\n"
        "        await model.encode(['a'] * 70); await anext(model.encode_stream(['a'] * 70))\n"
        "asyncio.run(awaited())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_words_are_explained(remote: M3Model, tiny_model: M3Model) -> None:
    found, wanted = (model.explain("a boat?", TEXTS[0]).to_dict() for model in (remote, tiny_model))
    assert found["scores"] == pytest.approx(wanted["scores"])
    assert (found["query_words"], found["text_words"]) == (wanted["query_words"], wanted["text_words"])


def test_no_engine_is_loaded(model_server: Served) -> None:
    code = (
        "import sys; from trivec import M3Model, BGEM3EmbeddingFunction\n"
        f"with M3Model.load({model_server.url!r}) as model:\n"
        "    model.encode(['a'] * 70); model.compute_score(('a', 'b')); model.token_weights('a'); model.fingerprint\n"
        f"BGEM3EmbeddingFunction({model_server.url!r}).encode_queries(['a'])\n"
        "print(sorted({'openvino', 'torch', 'tokenizers', 'huggingface_hub', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
