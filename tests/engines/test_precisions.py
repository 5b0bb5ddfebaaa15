"""int8 and bfloat16 beside float32: how far off, and that what makes rounding hard is taken care of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import TINY, write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Embeddings, M3Model
from trivec.checkpoint import open_checkpoint
from trivec.checkpoint.safetensors_file import write_safetensors
from trivec.checkpoint.tensors import StoredTensor
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines.openvino.graph import encoder_graph, encoder_inputs
from trivec.engines.openvino.runtime import ov
from trivec.engines.processor import has_bf16, has_int8, offers_int8
from trivec.engines.quantization import quantized_encoder_weights

TEXTS = [text for texts in SENTENCES.values() for text in texts] + ["", "a", " ".join(SENTENCES["en"] * 6)]

needs_int8 = pytest.mark.skipif(not offers_int8(), reason="no engine computes in int8 here")


def encoded(folder: Path | str, precision: str) -> M3Embeddings:
    with M3Model.load(folder, precision=precision) as model:
        assert model.precision == precision
        return model.encode(TEXTS, return_colbert_vecs=True)


def worst_cosine(ours: M3Embeddings, exact: M3Embeddings) -> float:
    return float((ours.dense * exact.dense).sum(axis=1).min())


@needs_int8
def test_int8_on_the_bundled_model() -> None:
    exact, ours = encoded("nano", "fp32"), encoded("nano", "int8")
    assert 0.998 <= worst_cosine(ours, exact) < 1 - 1e-6
    assert (
        min(float((a * b).sum(axis=1).min()) for a, b in zip(ours.colbert_vecs, exact.colbert_vecs, strict=True))
        >= 0.998
    )
    assert abs(ours.sparse - exact.sparse).max() <= 0.02 * exact.sparse.max()


@needs_int8
@pytest.mark.parametrize("stored", ["pytorch_model.bin", "model.safetensors"])
def test_int8_on_random_weights(tmp_path: Path, stored: str) -> None:
    folder = write_random_checkpoint(tmp_path / "m", TINY, weights=stored)
    assert worst_cosine(encoded(folder, "int8"), encoded(folder, "fp32")) >= 0.998


@needs_int8
def test_int8_does_not_depend_on_the_neighbours() -> None:
    with M3Model.load("nano", precision="int8") as model:
        together = model.encode(TEXTS).dense
        alone = np.concatenate([model.encode([text]).dense for text in TEXTS])
    assert (together * alone).sum(axis=1).min() >= 0.9999


def with_tensors(folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    """Copy the bundled model with some of its encoder's tensors changed."""
    checkpoint = open_checkpoint("nano")
    shutil.copytree(checkpoint.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    changed = {name: StoredTensor(change(name, t.float32().copy()), "F32") for name, t in checkpoint.encoder.items()}
    write_safetensors(folder / "model.safetensors", changed.items(), {})
    return folder


@needs_int8
def test_int8_with_channels_that_are_always_large(tmp_path: Path) -> None:
    """A few channels 40 times the others, as real models have them: rounded with them, the others would be lost."""

    def outliers(name: str, values: np.ndarray) -> np.ndarray:
        if name.endswith("LayerNorm.weight") or name.endswith("LayerNorm.bias"):
            values[[3, 100, 200]] *= 40
        if name.endswith(("query.weight", "key.weight", "value.weight", "intermediate.dense.weight")):
            values[:, [3, 100, 200]] /= 40
        return values

    folder = with_tensors(tmp_path / "outliers", outliers)
    assert worst_cosine(encoded(folder, "int8"), encoded(folder, "fp32")) >= 0.998


@needs_int8
def test_int8_with_sharp_attention(tmp_path: Path) -> None:
    """Large scores of attention turn small errors into large ones: such products must not be rounded to 8 bits."""

    def sharp(name: str, values: np.ndarray) -> np.ndarray:
        return values * 2 if "layer.1" in name and ".query." in name else values

    folder = with_tensors(tmp_path / "sharp", sharp)
    assert worst_cosine(encoded(folder, "int8"), encoded(folder, "fp32")) >= 0.998


@pytest.mark.skipif(not has_int8(), reason="OpenVINO multiplies 8-bit numbers only where the processor does")
def test_int8_where_bfloat16_is_not_native() -> None:
    """On such a processor the products kept in bfloat16 and attention run in float32: same vectors."""
    checkpoint = open_checkpoint("nano")
    tokenizer = M3Tokenizer(checkpoint.tokenizer_file)
    weights = dict(quantized_encoder_weights(checkpoint, tokenizer, {}))
    assert any(t.dtype == "BF16" for t in weights.values()), "nano's first attention is too sharp for 8 bits"
    words = weights["embeddings.word_embeddings.weight"]
    inputs = encoder_inputs(tokenizer.encode_batch(TEXTS, 512).token_ids, words, checkpoint.config.pad_token_id)
    hidden = ov.Core().compile_model(
        encoder_graph(checkpoint.config, weights, bf16=False), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )(inputs)[0][:, 0]
    dense = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    assert (dense * encoded("nano", "fp32").dense).sum(axis=1).min() >= 0.998


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16 instructions")
def test_bf16_on_the_bundled_model() -> None:
    assert 0.9995 <= worst_cosine(encoded("nano", "bf16"), encoded("nano", "fp32")) < 1 - 1e-7
