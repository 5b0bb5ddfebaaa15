"""What both CPU engines must survive: damaged weights within a call, callers that leave, closing while busy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.checkpoint import open_checkpoint
from trivec.checkpoint.safetensors_file import write_safetensors
from trivec.checkpoint.tensors import StoredTensor
from trivec.engines import Heads
from trivec.engines.encoder_weights import WORD_EMBEDDINGS, to_bfloat16
from trivec.engines.processor import has_bf16, has_int8, missing_for_native
from trivec.errors import TrivecError

TEXTS = [text for texts in SENTENCES.values() for text in texts]
needs_native = pytest.mark.skipif(missing_for_native() is not None, reason="there is no native engine here")
needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16")
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this processor has no 8-bit products")
ENGINES = ["openvino", pytest.param("native", marks=needs_native)]
REDUCED = [
    pytest.param("openvino", "bf16", marks=needs_bf16),
    pytest.param("openvino", "int8", marks=needs_int8),
    pytest.param("native", "int8", marks=needs_native),
]


def with_words(checkpoint: Path, folder: Path, rows: dict[int, float]) -> Path:
    """Copy a checkpoint with some rows of the word table filled with a number."""
    shutil.copytree(checkpoint, folder)
    tensors = dict(open_checkpoint(checkpoint).encoder)
    words = tensors[WORD_EMBEDDINGS].float32().copy()
    for row, value in rows.items():
        words[row] = value
    write_safetensors(
        folder / "model.safetensors", (tensors | {WORD_EMBEDDINGS: StoredTensor(words, "F32")}).items(), {}
    )
    return folder


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("engine", ENGINES)
def test_after_an_error_in_the_middle_of_a_call_the_model_goes_on(
    tiny_checkpoint: Path, tiny_model: M3Model, tmp_path: Path, engine: str, bad: float
) -> None:
    bad_text = "Ein Boot " * 60  # the longest, so other batches follow while its vectors are looked at
    used = set(tiny_model.tokenizer.encode_batch(TEXTS, 512).token_ids[0].tolist())
    bad_ids = set(tiny_model.tokenizer.encode_batch([bad_text], 512).token_ids[0].tolist()) - used
    good = [t for t in TEXTS if not bad_ids & set(tiny_model.tokenizer.encode_batch([t], 512).token_ids[0].tolist())]
    assert len(good) > 10
    folder = with_words(tiny_checkpoint, tmp_path / "m", dict.fromkeys(bad_ids, bad))
    with M3Model.load(folder, engine=engine, precision="fp32") as m:
        for _ in range(2):
            with pytest.raises(TrivecError, match="not finite"):
                m.encode([*good, bad_text], max_batch_tokens=256)
            assert np.abs(m.encode(good).dense - tiny_model.encode(good).dense).max() <= 1e-5


@pytest.fixture(scope="module", params=ENGINES)
def exact_model(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> Iterator[M3Model]:
    with M3Model.load(tiny_checkpoint, engine=request.param, precision="fp32") as model:
        yield model


@pytest.mark.parametrize("most", [1, 40, 5_000, None])
def test_a_batch_holds_no_more_tokens_than_are_allowed(exact_model: M3Model, most: int | None) -> None:
    token_ids = exact_model.tokenizer.encode_batch([*TEXTS, " ".join(TEXTS)] * 9, 1024).token_ids
    batches = [texts for texts, _ in exact_model._engine.encode(token_ids, Heads(), most)]
    assert sorted(np.concatenate(batches)) == list(range(len(token_ids)))
    for texts in batches:
        assert len(texts) == 1 or sum(len(token_ids[i]) for i in texts) <= min(most or 1024, 1024)
    assert (max(map(len, batches)) > 1) == (most != 1)


def test_a_stream_left_in_the_middle_leaves_the_model_as_it_was(exact_model: M3Model) -> None:
    before = exact_model.encode(TEXTS).dense
    for taken in (1, 5):
        stream = exact_model.encode_stream(TEXTS * 60, max_batch_tokens=256)
        for _ in range(taken):
            next(stream)
        stream.close()
    assert np.abs(exact_model.encode(TEXTS).dense - before).max() <= 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_closing_while_another_thread_encodes(tiny_checkpoint: Path, engine: str) -> None:
    for _ in range(5):
        model = M3Model.load(tiny_checkpoint, engine=engine, precision="fp32")
        ended: list[BaseException] = []
        begun = threading.Event()

        def encode(model: M3Model, begun: threading.Event, ended: list[BaseException]) -> None:
            try:
                while True:
                    model.encode(TEXTS, max_batch_tokens=256)
                    begun.set()
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=encode, args=(model, begun, ended))
        thread.start()
        assert begun.wait(60)
        model.close()
        thread.join(60)
        assert isinstance(ended[0], TrivecError)
        assert "closed" in str(ended[0])


@pytest.mark.parametrize(("engine", "precision"), REDUCED)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_reduced_precisions_of_every_stored_one(
    dtype: str, use_cache: bool, engine: str, precision: str, tmp_path: Path
) -> None:
    folder = write_random_checkpoint(tmp_path / "m", dtype=dtype)
    with (
        M3Model.load(folder, precision="fp32") as exact,
        M3Model.load(folder, engine=engine, precision=precision, use_cache=use_cache, num_threads=1) as model,
    ):
        assert (model.encode(TEXTS).dense * exact.encode(TEXTS).dense).sum(axis=1).min() >= 0.998


@pytest.mark.parametrize(("engine", "precision"), REDUCED)
def test_words_too_large_for_float16(engine: str, precision: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = with_words(tiny_checkpoint, tmp_path / "m", {0: 1e5})
    with (
        M3Model.load(folder, precision="fp32") as exact,
        M3Model.load(folder, engine=engine, precision=precision) as model,
    ):
        assert (model.encode(TEXTS).dense * exact.encode(TEXTS).dense).sum(axis=1).min() >= 0.99


WATCHED = """
import os, sys, threading
from trivec import M3Model

bound, over = set(), threading.Event()

def look():
    while not over.is_set():
        for thread in os.listdir("/proc/self/task"):
            try:
                bound.add(frozenset(os.sched_getaffinity(int(thread))))
            except OSError:  # it has just ended
                pass

with M3Model.load(sys.argv[1], engine="openvino", precision="fp32", num_threads=1) as model:
    watcher = threading.Thread(target=look)
    watcher.start()
    model.encode(["word " * 200] * 50, show_progress=False)
    over.set()
    watcher.join()
assert bound == {frozenset(os.sched_getaffinity(0))}, bound
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: what cores a thread may run on")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_a_part_of_the_cores_is_not_always_the_first_ones(tiny_checkpoint: Path) -> None:
    """Else two processes with one thread each would share one core."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tiny_checkpoint)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_rounding_to_bfloat16() -> None:
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x7F800000, 0xFFFFFFFF, 0x7FFFFFFF], np.uint32)
    rounded = to_bfloat16(bits.view(np.float32)).float32()
    assert rounded[:4].tolist() == [1.0, 1.0, 1.015625, np.inf]  # halves go to the even neighbour
    assert np.isnan(rounded[4:]).all()


def test_rounding_weights_that_are_stored_by_column() -> None:
    by_column = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    rounded = to_bfloat16(by_column)
    assert rounded.data.flags.c_contiguous
    assert np.array_equal(rounded.float32(), by_column)


def test_a_signal_after_models_were_closed_in_the_order_of_loading(tiny_checkpoint: Path) -> None:
    """Each of OpenVINO's runtimes moves the stack of signals; of several, the last one freed left it in lost memory."""
    code = f"""
import os, signal
from trivec import M3Model
models = [M3Model.load({str(tiny_checkpoint)!r}, engine="openvino", precision="fp32") for _ in range(3)]
while models:
    model = models.pop(0)
    model.encode(["x"])
    model.close()
    del model
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
