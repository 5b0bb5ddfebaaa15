"""A cross-encoder's scores on every engine, held against the model written out in NumPy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import numpy_reference
from sample_texts import SENTENCES
from trivec import M3Reranker
from trivec.checkpoint import Checkpoint
from trivec.checkpoint.pair_tokenizer import PairTokenizer, TextPair
from trivec.engines.processor import has_bf16, missing_for_native

TEXTS = [text for texts in SENTENCES.values() for text in texts]
PAIRS = [*zip(TEXTS, reversed(TEXTS), strict=True), ("", ""), ("a lake", ""), ("", "a lake")]
needs_native = pytest.mark.skipif(missing_for_native() is not None, reason="there is no native engine here")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch: run `make parity`")


def reference(checkpoint: Checkpoint, token_ids: np.ndarray) -> float:
    head = checkpoint.classifier
    assert head is not None
    state = numpy_reference.hidden_states(checkpoint, token_ids)[0]
    inner = np.tanh(head.dense.weight.float32().astype(np.float64) @ state + head.dense.bias.float32())
    return float(head.out.weight.float32()[0].astype(np.float64) @ inner + head.out.bias.float32()[0])


@pytest.mark.parametrize(
    ("engine", "precision", "tolerance"),
    [
        pytest.param("openvino", "fp32", 1e-5),
        pytest.param(
            "openvino", "bf16", 0.1, marks=pytest.mark.skipif(not has_bf16(), reason="no bfloat16 instructions")
        ),
        pytest.param("native", "fp32", 1e-5, marks=needs_native),
        pytest.param("native", "int8", 0.1, marks=needs_native),
        pytest.param("torch", "fp32", 1e-5, marks=needs_torch),
    ],
)
def test_scores(tiny_reranker_checkpoint: Path, engine: str, precision: str, tolerance: float) -> None:
    with M3Reranker.load(tiny_reranker_checkpoint, engine=engine, device="cpu", precision=precision) as reranker:
        assert reranker.precision == precision
        tokenized = PairTokenizer(reranker.tokenizer).encode_batch([TextPair(*pair) for pair in PAIRS], 1024)
        wanted = [reference(reranker.checkpoint, ids) for ids in tokenized.token_ids]
        assert np.std(wanted) > 0.01
        assert reranker.compute_score(PAIRS) == pytest.approx(wanted, rel=0, abs=tolerance)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_checkpoints_stored_in_half(dtype: str, tmp_path: Path) -> None:
    from random_checkpoint import write_random_checkpoint

    folder = write_random_checkpoint(tmp_path / "half", dtype=dtype, classifier=1, weights="pytorch_model.bin")
    with M3Reranker.load(folder, precision="fp32") as reranker:
        (ids,) = PairTokenizer(reranker.tokenizer).encode_batch([TextPair(*PAIRS[0])], 1024).token_ids
        wanted = reference(reranker.checkpoint, ids)
        assert reranker.compute_score(PAIRS[0]) == pytest.approx(wanted, rel=0, abs=1e-5)
