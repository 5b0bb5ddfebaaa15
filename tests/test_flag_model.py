"""FlagEmbedding's class without FlagEmbedding: notebooks run, results have its form, what cannot be is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flag_patterns import PASSAGES, PATTERNS, QUERIES, Pattern
from trivec import BGEM3FlagModel, M3Model


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> BGEM3FlagModel:
    return BGEM3FlagModel(tiny_checkpoint, use_fp16=False)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_notebooks_run_with_the_import_changed(tiny_checkpoint: Path, pattern: Pattern) -> None:
    assert pattern(BGEM3FlagModel, tiny_checkpoint) is not None


def test_results_have_its_form(model: BGEM3FlagModel, tiny_model: M3Model) -> None:
    found = model.encode(QUERIES, return_sparse=True, return_colbert_vecs=True)
    expected = tiny_model.encode(QUERIES, return_colbert_vecs=True)
    assert list(found) == ["dense_vecs", "lexical_weights", "colbert_vecs"]
    assert (found["dense_vecs"] == expected.dense).all()
    for weights, row in zip(found["lexical_weights"], expected.sparse, strict=True):
        assert list(weights) == [str(token) for token in row.indices]
        assert list(weights.values()) == row.data.tolist()
        assert json.loads(json.dumps(weights)) == weights
        assert weights["no such token"] == 0
    assert all((a == b).all() for a, b in zip(found["colbert_vecs"], expected.colbert_vecs, strict=True))
    assert model.encode(QUERIES)["lexical_weights"] is None
    assert model.encode([])["dense_vecs"].shape == (0, 32)
    assert model.compute_score([]) == []


def test_a_long_text_is_read_to_its_end_unless_told_otherwise(tiny_checkpoint: Path) -> None:
    long = "word " * 260
    model = BGEM3FlagModel(tiny_checkpoint, use_fp16=False, return_colbert_vecs=True)
    assert 512 < len(model.encode(long)["colbert_vecs"]) < 1023
    with pytest.warns(UserWarning, match="1 of 1 texts had more than max_length=512"):
        assert len(model.encode(long, max_length=512)["colbert_vecs"]) == 511


def test_several_devices_and_reduced_precision_are_named_as_there(tiny_checkpoint: Path) -> None:
    model = BGEM3FlagModel(tiny_checkpoint, devices=["cpu"], use_fp16=True)
    assert model.encode(QUERIES)["dense_vecs"].dtype == np.float32
    assert BGEM3FlagModel(tiny_checkpoint, use_fp16=False).model.precision == "fp32"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pooling_method": "mean"}, ValueError, "pooling_method='mean': BGE-M3's dense vector is that of `<s>`"),
        ({"convert_to_numpy": False}, ValueError, "results are NumPy's; torch.from_numpy makes tensors"),
        ({"batch_sise": 3}, TypeError, "unexpected argument 'batch_sise'"),
        ({"batch_size": 0}, ValueError, "batch_size=0 must be at least 1"),
        ({"use_fp16": "no"}, TypeError, "use_fp16='no'"),
        ({"query_max_length": 1}, ValueError, "query_max_length=1 must lie between 2 and the model's limit of 1024"),
        ({"truncate_dim": 0}, ValueError, "truncate_dim=0"),
    ],
)
def test_what_cannot_be_honoured_is_told(
    tiny_checkpoint: Path, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BGEM3FlagModel(tiny_checkpoint, **arguments)


def test_calls_tell_what_they_cannot_take(model: BGEM3FlagModel) -> None:
    with pytest.raises(TypeError, match="padding=False cannot be honoured"):
        model.encode(QUERIES, padding=False)
    with pytest.raises(TypeError, match=r"texts\[1\] is None"):
        model.encode(["a", None])
    with pytest.raises(ValueError, match="give two dicts of lexical weights, or two lists"):
        model.compute_lexical_matching_score({"1": 0.5}, [{"1": 0.5}])
    with pytest.raises(ValueError, match="weights must be three numbers"):
        model.compute_score([(QUERIES[0], PASSAGES[0])], weights_for_different_modes=[1, 1])
