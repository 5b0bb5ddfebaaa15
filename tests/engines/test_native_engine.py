"""The native engine computes what OpenVINO computes: sizes that fill no vector, long texts, several threads, forks."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import TINY, write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Embeddings, M3Model
from trivec.checkpoint import open_checkpoint
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines import Heads
from trivec.engines.encoder_weights import WORD_EMBEDDINGS
from trivec.engines.native.layout import in_panels, padded_row
from trivec.engines.native.library import Layer, Model, Norm, Pool, Product
from trivec.engines.openvino.graph import encoder_graph, encoder_inputs
from trivec.engines.openvino.runtime import ov
from trivec.engines.processor import missing_for_native
from trivec.engines.quantization import _widened, quantized_encoder_weights

pytestmark = pytest.mark.skipif(missing_for_native() is not None, reason="there is no native engine here")

TEXTS = [text for texts in SENTENCES.values() for text in texts]
TEXTS += ["", "a", " ".join(SENTENCES["en"] * 6), "<pad> spelled <s> out </s>"]
# hidden, heads, intermediate: vectors of 8 and panels of 16 that are not filled, heads of 6 to 64 channels
SIZES = [(32, 4, 64), (24, 3, 40), (36, 6, 51), (35, 5, 33), (64, 1, 16), (120, 2, 100), (8, 1, 3)]


def checkpoint_of(folder: Path, hidden: int, heads: int, intermediate: int, **other: int) -> Path:
    config = dataclasses.replace(TINY, hidden_size=hidden, num_heads=heads, intermediate_size=intermediate, **other)
    return write_random_checkpoint(folder, config, seed=hidden)


def assert_same(ours: M3Embeddings, theirs: M3Embeddings, tolerance: float) -> None:
    assert np.abs(ours.dense - theirs.dense).max() <= tolerance
    assert abs(ours.sparse - theirs.sparse).max() <= tolerance * max(1, theirs.sparse.max())
    for a, b in zip(ours.colbert_vecs, theirs.colbert_vecs, strict=True):
        assert a.shape == b.shape
        assert a.size == 0 or np.abs(a - b).max() <= tolerance


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_fp32_is_exact_at_any_size(size: tuple[int, int, int], threads: int, tmp_path: Path) -> None:
    folder = checkpoint_of(tmp_path / "m", *size)
    with (
        M3Model.load(folder, engine="openvino", precision="fp32") as exact,
        M3Model.load(folder, engine="native", precision="fp32", num_threads=threads) as model,
    ):
        for normalize in (True, False):
            kwargs = {"return_colbert_vecs": True, "normalize": normalize}
            assert_same(model.encode(TEXTS, **kwargs), exact.encode(TEXTS, **kwargs), 1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_int8_is_exact_but_for_its_weights(size: tuple[int, int, int], tmp_path: Path) -> None:
    """The same rounded weights in float32 through OpenVINO: what remains is the rounding of activations to 16 bits."""
    folder = checkpoint_of(tmp_path / "m", *size)
    checkpoint = open_checkpoint(folder)
    tokenizer = M3Tokenizer(checkpoint.tokenizer_file)
    quantized = dict(quantized_encoder_weights(checkpoint, tokenizer, {}, exact_activations=True))
    weights = _widened(quantized)
    inputs = encoder_inputs(tokenizer.encode_batch(TEXTS, 512).token_ids, weights[WORD_EMBEDDINGS], 1)
    compiled = ov.Core().compile_model(
        encoder_graph(checkpoint.config, weights, bf16=False), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    hidden = compiled(inputs)[0][:, 0]
    with M3Model.load(folder, engine="native", precision="int8", max_length=512, use_cache=False) as model:
        dense = model.encode(TEXTS, normalize=False).dense
    assert any(tensor.dtype == "I8" for tensor in quantized.values())
    assert np.abs(dense - hidden).max() <= 3e-3 * np.abs(hidden).max()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_as_long_as_the_model_reads(precision: str, tmp_path: Path) -> None:
    folder = checkpoint_of(tmp_path / "m", 32, 2, 48, num_layers=1, max_position_embeddings=8194)
    texts = [" ".join(TEXTS * 60), "short"]
    with (
        M3Model.load(folder, engine="openvino", precision="fp32") as exact,
        M3Model.load(folder, engine="native", precision=precision) as model,
        pytest.warns(UserWarning, match="1 of 2 texts had more than max_length=8192"),
    ):
        ours, theirs = (m.encode(texts, return_colbert_vecs=True) for m in (model, exact))
    assert len(ours.colbert_vecs[0]) == 8191
    assert_same(ours, theirs, 1e-5 if precision == "fp32" else 3e-2)


def test_neighbours_change_nothing(tiny_checkpoint: Path) -> None:
    with M3Model.load(tiny_checkpoint, engine="native", precision="fp32") as model:
        together = model.encode(TEXTS).dense
        alone = np.concatenate([model.encode([text]).dense for text in TEXTS])
        assert np.abs(together - alone).max() <= 1e-6
        assert np.array_equal(together, model.encode(TEXTS).dense)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_not_finite_stays_in_its_text_and_is_seen(precision: str, bad: float, tiny_checkpoint: Path) -> None:
    """Rounding to whole steps must not turn a broken number into a sound one."""
    with M3Model.load(tiny_checkpoint, engine="native", precision=precision) as model:
        embeddings = np.random.default_rng(1).normal(size=(30, 32)).astype(np.float32)
        expected = model._engine._pool.encode(model._engine._encoder.model, embeddings, [10, 10, 10])
        embeddings[15, 20] = bad
        hidden = model._engine._pool.encode(model._engine._encoder.model, embeddings, [10, 10, 10])
    assert np.isnan(hidden[10:20]).all()
    assert np.array_equal(np.delete(hidden, np.s_[10:20], axis=0), np.delete(expected, np.s_[10:20], axis=0))


def test_several_threads_at_once(tiny_checkpoint: Path) -> None:
    with M3Model.load(tiny_checkpoint, engine="native", precision="fp32", num_threads=4) as model:
        expected = model.encode(TEXTS).dense
        results: list[np.ndarray] = []
        threads = [threading.Thread(target=lambda: results.append(model.encode(TEXTS).dense)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(results) == 8
    assert all(np.array_equal(result, expected) for result in results)


def in_a_child(function: Callable[[], bool]) -> int:
    """Fork, and return the child's exit status: 0 if `function` returned true there; it has a minute."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            code = 0 if function() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_goes_on_with_the_engine(tiny_checkpoint: Path) -> None:
    """The child has none of the parent's threads: it starts its own, even if another thread held the engine."""
    with M3Model.load(tiny_checkpoint, engine="native", precision="fp32", num_threads=2) as model:
        engine = model._engine
        ids = model.tokenizer.encode_batch(TEXTS, 512).token_ids

        def dense() -> np.ndarray:
            return np.concatenate([vectors.dense for _, vectors in engine.encode(ids, Heads(), 4096)])

        expected = dense()
        with engine._lock:  # as if another thread computed
            assert in_a_child(lambda: np.array_equal(dense(), expected)) == 0
        assert np.array_equal(dense(), expected)


def test_no_thread_computes_between_calls(tiny_checkpoint: Path) -> None:
    with M3Model.load(tiny_checkpoint, engine="native", precision="fp32", num_threads=4) as model:
        model.encode(TEXTS)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.25


def test_gelu_and_softmax_over_their_whole_range() -> None:
    """One layer whose inner product is the identity shows GELU; all else is switched off by zeros."""
    hidden = 16
    held: list[np.ndarray] = []

    def row(values: np.ndarray) -> int:
        held.append(padded_row(np.asarray(values, np.float32)))
        return held[-1].ctypes.data

    def product(weight: np.ndarray) -> Product:
        held.append(in_panels(np.asarray(weight, np.float32)))
        return Product(
            0, len(weight), weight.shape[1], held[-1].ctypes.data, None, row(np.zeros(len(weight))), None, None
        )

    spread, none = np.linspace(-3, 3, hidden), np.zeros(hidden)
    norm = Norm(row(np.ones(hidden)), row(none))
    # The norm before GELU has a weight of 0, so its bias is what goes in, and what is added afterwards.
    inner_norm = Norm(row(none), row(spread * 3))
    layer = Layer(
        product(np.zeros((3 * hidden, hidden))),
        product(np.zeros((hidden, hidden))),
        product(np.eye(hidden)),
        product(np.eye(hidden)),
        inner_norm,
        norm,
    )
    layers = (Layer * 1)(layer)
    model = Model(1, hidden, 1, hidden, 0.0, norm, layers)
    pool = Pool(1)
    got = pool.encode(model, np.random.default_rng(0).normal(size=(1, hidden)).astype(np.float32), [1])[0]
    pool.close()
    x = spread * 3
    gelu = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]) + x
    assert np.abs(got - (gelu - gelu.mean()) / gelu.std()).max() <= 2e-6
