"""What every engine promises (`trivec.engines.Engine`), held against BGE-M3 written out in NumPy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import numpy_reference
from trivec.checkpoint import Checkpoint, open_checkpoint
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines import EncodedBatch, Engine, Heads
from trivec.engines.mcls import with_more_cls
from trivec.engines.processor import missing_for_native
from trivec.engines.selection import load_engine
from trivec.errors import TrivecError

ALL = Heads(colbert=True)
LENGTHS = [2, 9, 3, 3, 40, 17, 1, 64, 5, 33, 2, 130]
needs_native = pytest.mark.skipif(missing_for_native() is not None, reason="there is no native engine here")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch: run `make parity`")
ENGINES = [
    pytest.param(("openvino", None), id="openvino"),
    pytest.param(("native", None), id="native", marks=needs_native),
    pytest.param(("torch", "cpu"), id="torch", marks=needs_torch),
    pytest.param(("torch", ["cpu", "cpu"]), id="torch on two devices", marks=needs_torch),
]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> M3Tokenizer:
    return M3Tokenizer(checkpoint.tokenizer_file)


@pytest.fixture(scope="module")
def token_ids(tokenizer: M3Tokenizer) -> list[np.ndarray]:
    draw = np.random.default_rng(5)
    drawn = [draw.integers(0, tokenizer.vocabulary_size, length).astype(np.int32) for length in LENGTHS]
    # Besides, one token again and again, and <pad> (1) spelled within a text.
    return [*drawn, np.repeat(drawn[1][:1], 6), np.array([0, 7, 1, 8, 1, 1, 9, 2], np.int32)]


@pytest.fixture(scope="module", params=ENGINES)
def load(request: pytest.FixtureRequest, checkpoint: Checkpoint, tokenizer: M3Tokenizer):
    def loaded() -> Engine:
        name, device = request.param
        return load_engine(checkpoint, tokenizer, name, device, "fp32", None, use_cache=False)

    return loaded


@pytest.fixture(scope="module")
def engine(load) -> Iterator[Engine]:
    loaded = load()
    yield loaded
    loaded.close()


def by_text(batches: Iterator[tuple[np.ndarray, EncodedBatch]]) -> dict[int, tuple]:
    """Dense vector, lexical weights and token vectors of each text; every text comes once."""
    found: dict[int, tuple] = {}
    for texts, batch in batches:
        for place, text in enumerate(texts.tolist()):
            assert text not in found
            row = None if batch.sparse is None else batch.sparse[place]
            found[text] = (
                None if batch.dense is None else batch.dense[place],
                None if row is None else dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)),
                None if batch.colbert_vecs is None else batch.colbert_vecs[place],
            )
    return found


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("token_budget", [1, 50, 100_000])
def test_vectors_are_those_of_the_formulas(
    engine: Engine, checkpoint: Checkpoint, tokenizer: M3Tokenizer, token_ids, token_budget: int, normalize: bool
) -> None:
    heads = Heads(colbert=True, normalize=normalize)
    found = by_text(engine.encode(token_ids, heads, token_budget))
    assert sorted(found) == list(range(len(token_ids)))
    for text, ids in enumerate(token_ids):
        dense, lexical, token_vectors = numpy_reference.vectors(checkpoint, ids, tokenizer.unused_ids, normalize)
        assert np.abs(found[text][0] - dense).max() <= 1e-5 * max(1, np.abs(dense).max())
        assert found[text][1] == pytest.approx(lexical, abs=1e-5)
        assert found[text][2].shape == token_vectors.shape
        assert np.abs(found[text][2] - token_vectors).max(initial=0) <= 1e-5 * max(
            1, np.abs(token_vectors).max(initial=0)
        )


@pytest.mark.parametrize("every", [4, 16, 200])
def test_the_mean_of_several_cls(
    engine: Engine, checkpoint: Checkpoint, tokenizer: M3Tokenizer, token_ids, every: int
) -> None:
    texts = [with_more_cls(ids, every) for ids in token_ids if len(ids) > 1]
    found = by_text(engine.encode(texts, Heads(colbert=True, mcls=every), 100))
    for text, ids in enumerate(texts):
        dense, lexical, token_vectors = numpy_reference.vectors(checkpoint, ids, tokenizer.unused_ids, True, every)
        assert np.abs(found[text][0] - dense).max() <= 1e-5
        assert found[text][1] == pytest.approx(lexical, abs=1e-5)
        assert found[text][2].shape == token_vectors.shape
        assert np.abs(found[text][2] - token_vectors).max() <= 1e-5


def test_types_and_shapes(engine: Engine, checkpoint: Checkpoint, tokenizer: M3Tokenizer, token_ids) -> None:
    assert engine.precision == "fp32"
    for texts, batch in engine.encode(token_ids, ALL, 64):
        assert batch.dense.shape == (len(texts), checkpoint.config.hidden_size)
        assert batch.sparse.shape == (len(texts), tokenizer.vocabulary_size)
        assert batch.sparse.has_canonical_format
        assert len(batch.colbert_vecs) == len(texts)
        assert {batch.dense.dtype, batch.sparse.dtype, batch.colbert_vecs[0].dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("heads", [Heads(True, False), Heads(False, True), Heads(False, False, True), ALL])
def test_only_what_is_asked_for(engine: Engine, token_ids, heads: Heads) -> None:
    everything = by_text(engine.encode(token_ids, ALL, 1000))
    for text, got in by_text(engine.encode(token_ids, heads, 1000)).items():
        for wanted, value, reference in zip(
            (heads.dense, heads.sparse, heads.colbert), got, everything[text], strict=True
        ):
            assert (value is not None) is wanted
            if wanted:
                assert value == pytest.approx(reference, abs=1e-6)


def test_several_threads_at_once(engine: Engine, token_ids) -> None:
    wanted = by_text(engine.encode(token_ids, ALL, 64))
    failed: list[object] = []

    def encode() -> None:
        try:
            for _ in range(10):
                for text, (dense, *_) in by_text(engine.encode(token_ids, ALL, 64)).items():
                    if np.abs(dense - wanted[text][0]).max() > 1e-6:
                        failed.append(text)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_caller_that_leaves_in_the_middle_changes_nothing(engine: Engine, token_ids) -> None:
    wanted = by_text(engine.encode(token_ids, ALL, 8))
    for taken in (1, 3):
        batches = engine.encode(token_ids * 20, ALL, 8)
        for _ in range(taken):
            next(batches)
        batches.close()
    for text, (dense, *_) in by_text(engine.encode(token_ids, ALL, 8)).items():
        assert np.abs(dense - wanted[text][0]).max() <= 1e-6


def test_a_closed_engine_says_so(load, token_ids) -> None:
    engine = load()
    engine.close()
    engine.close()
    with pytest.raises(TrivecError, match="the model is closed"):
        list(engine.encode(token_ids, ALL, 64))
