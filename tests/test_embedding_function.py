"""`BGEM3EmbeddingFunction` behaves as the Milvus documentation and pymilvus-model have it."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sample_texts import SENTENCES
from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.engines.processor import offers_int8
from trivec.errors import DeviceError, MissingHeadError, TrivecError

TEXTS = [text for texts in SENTENCES.values() for text in texts]


@pytest.fixture(scope="module")
def function(tiny_checkpoint: Path) -> BGEM3EmbeddingFunction:
    return BGEM3EmbeddingFunction(
        model_name=str(tiny_checkpoint), device="cpu", use_fp16=False, return_colbert_vecs=True
    )


def test_parameters_stand_in_pymilvus_models_order() -> None:
    parameters = inspect.signature(BGEM3EmbeddingFunction).parameters
    assert {name: p.default for name, p in parameters.items() if name != "kwargs"} == {
        "model_name": "BAAI/bge-m3",
        "batch_size": 16,
        "device": None,
        "normalize_embeddings": True,
        "use_fp16": False,
        "return_dense": True,
        "return_sparse": True,
        "return_colbert_vecs": False,
    }


def test_result_form(function: BGEM3EmbeddingFunction, tiny_model: M3Model) -> None:
    for encode in (function, function.encode_documents, function.encode_queries):
        result = encode(TEXTS)
        assert list(result) == ["dense", "sparse", "colbert_vecs"]
        assert isinstance(result["dense"], list)
        assert {(v.shape, v.dtype) for v in result["dense"]} == {((32,), np.dtype(np.float32))}
        assert result["sparse"].dtype == np.float32
        assert result["sparse"].shape == (len(TEXTS), function.dim["sparse"])
        assert list(result["sparse"])[0].shape == (1, function.dim["sparse"])  # noqa: RUF015
        assert isinstance(result["colbert_vecs"], list)
        assert np.array_equal(np.stack(result["dense"]), tiny_model.encode(TEXTS).dense)


def test_only_the_keys_asked_for(tiny_checkpoint: Path) -> None:
    assert list(BGEM3EmbeddingFunction(tiny_checkpoint)(TEXTS)) == ["dense", "sparse"]
    dense_only = BGEM3EmbeddingFunction(tiny_checkpoint, return_sparse=False)
    assert list(dense_only(TEXTS)) == ["dense"]
    with pytest.raises(ValueError, match="nothing to compute"):
        BGEM3EmbeddingFunction(tiny_checkpoint, return_dense=False, return_sparse=False)


def test_dim(function: BGEM3EmbeddingFunction) -> None:
    assert function.dim == {"dense": 32, "sparse": 1005, "colbert_vecs": 32}


def test_any_iterable_of_texts(function: BGEM3EmbeddingFunction) -> None:
    wanted = np.stack(function(TEXTS)["dense"])
    for texts in (
        tuple(TEXTS),
        iter(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        pd.Series(TEXTS, index=range(9, 9 + len(TEXTS))),
    ):
        assert np.array_equal(np.stack(function.encode_documents(texts)["dense"]), wanted)
    with pytest.raises(TypeError, match=r"texts\[1\] is nan"):
        function(pd.Series(["a", None, "c"]).astype(object).where([True, False, True], np.nan))
    with pytest.raises(TypeError, match="bare str"):
        function.encode_queries("a bare question")


def test_no_texts(function: BGEM3EmbeddingFunction) -> None:
    result = function([])
    assert result["dense"] == []
    assert result["sparse"].shape == (0, 1005)
    assert result["colbert_vecs"] == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("batchsize", "batch_size"),
        ("max_len", "max_length"),
        ("fp16", "use_fp16"),
        ("passage_maxlength", "passage_max_length"),
        ("return_colbert", "return_colbert_vecs"),
        ("modelname", "model_name"),
        ("engines", "engine"),
    ],
)
def test_unknown_arguments_name_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected argument '{wrong}'; did you mean '{right}'"):
        BGEM3EmbeddingFunction("nowhere", **{wrong: 1})


def test_lengths_of_queries_and_documents(tiny_checkpoint: Path) -> None:
    options = {"max_length": 40, "query_max_length": 8, "passage_max_length": 16, "return_colbert_vecs": True}
    function = BGEM3EmbeddingFunction(tiny_checkpoint, **options)
    long = [" ".join(TEXTS)]
    for encode, length in ((function, 40), (function.encode_queries, 8), (function.encode_documents, 16)):
        with pytest.warns(UserWarning, match=f"1 of 1 texts had more than max_length={length}"):
            assert len(encode(long)["colbert_vecs"][0]) == length - 1
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        BGEM3EmbeddingFunction(tiny_checkpoint, batch_size=0)


@pytest.mark.parametrize(("batch_size", "tokens"), [(1, 256), (3, 768), (4, None), (16, None), (1000, None)])
def test_small_batches_save_memory_and_large_ones_are_the_engines_own(
    batch_size: int, tokens: int | None, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BGEM3EmbeddingFunction(tiny_checkpoint, batch_size=batch_size) as function:
        settings = []
        encode = function.model._encode
        monkeypatch.setattr(function.model, "_encode", lambda texts, how: settings.append(how) or encode(texts, how))
        assert len(function(TEXTS)["dense"]) == len(TEXTS)
        assert [how.max_batch_tokens for how in settings] == [tokens]
    with pytest.raises(ValueError, match="max_length=9000 must lie between 2 and the model's limit of 1024"):
        BGEM3EmbeddingFunction(tiny_checkpoint, max_length=9000)


def test_a_model_that_cannot_serve_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from random_checkpoint import write_random_checkpoint

    closed: list[M3Model] = []

    def close(model: M3Model) -> None:
        closed.append(model)

    monkeypatch.setattr(M3Model, "close", close)
    folder = write_random_checkpoint(tmp_path / "m", heads=("colbert",))
    with pytest.raises(MissingHeadError):
        BGEM3EmbeddingFunction(folder)
    with pytest.raises(ValueError, match="max_length=1 must lie between"):
        BGEM3EmbeddingFunction(folder, return_sparse=False, query_max_length=1)
    assert len(closed) == 2
    assert BGEM3EmbeddingFunction(folder, return_sparse=False).model not in closed


def test_a_length_out_of_range_is_told_before_the_weights_are_loaded(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivec.model.opening.load_engine", None)
    with pytest.raises(ValueError, match="max_length=9000 must lie between 2 and the model's limit of 1024"):
        M3Model.load(tiny_checkpoint, max_length=9000)


def test_closing_gives_the_model_back(tiny_checkpoint: Path) -> None:
    with BGEM3EmbeddingFunction(tiny_checkpoint) as function:
        assert len(function(TEXTS)["dense"]) == len(TEXTS)
    with pytest.raises(TrivecError, match="the model is closed"):
        function(TEXTS)


@pytest.mark.skipif(not offers_int8(), reason="no engine computes in int8 here")
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_cache_of_converted_weights_can_be_switched_off(
    use_cache: bool, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path))
    with BGEM3EmbeddingFunction(tiny_checkpoint, precision="int8", use_cache=use_cache) as function:
        assert function.model.precision == "int8"
    assert bool(list(tmp_path.rglob("*"))) == use_cache


def test_texts_are_not_silently_cut_at_512_tokens(function: BGEM3EmbeddingFunction) -> None:
    text = "boat " * 300
    assert len(function([text])["colbert_vecs"][0]) > 512
    assert len(function.encode_queries([text])["colbert_vecs"][0]) > 512


def test_precision(tiny_checkpoint: Path) -> None:
    assert BGEM3EmbeddingFunction(tiny_checkpoint).model.precision == "fp32"
    assert (
        BGEM3EmbeddingFunction(tiny_checkpoint, use_fp16=True, precision=None).model.precision
        == M3Model.load(tiny_checkpoint).precision
    )
    assert (
        BGEM3EmbeddingFunction(tiny_checkpoint, precision="auto").model.precision
        == M3Model.load(tiny_checkpoint).precision
    )
    with pytest.raises(ValueError, match="contradict"):
        BGEM3EmbeddingFunction(tiny_checkpoint, use_fp16=True, precision="fp32")


def test_devices_is_another_name_for_device(tiny_checkpoint: Path) -> None:
    assert BGEM3EmbeddingFunction(tiny_checkpoint, devices=["cpu"]).device == ["cpu"]
    with pytest.raises(DeviceError, match="device='tpu:3'"):
        BGEM3EmbeddingFunction(tiny_checkpoint, devices="tpu:3")
    with pytest.raises(ValueError, match="contradict"):
        BGEM3EmbeddingFunction(tiny_checkpoint, device="cpu", devices="cuda:0")


def test_device_and_devices_may_say_the_same(tiny_checkpoint: Path) -> None:
    for device, devices in (
        ("cpu", "cpu"),
        ("cpu", ["cpu"]),
        (["cpu"], "cpu"),
        ("", "cpu"),
        ("cpu", ""),
        (None, "cpu"),
    ):
        with BGEM3EmbeddingFunction(tiny_checkpoint, device=device, devices=devices) as function:
            assert function.device in ("cpu", ["cpu"])
    with BGEM3EmbeddingFunction(tiny_checkpoint, device="") as function:  # as the documentation of Zilliz has it
        assert function.device is None
    with pytest.raises(DeviceError, match="device=0"):
        BGEM3EmbeddingFunction(tiny_checkpoint, devices=0)


def test_the_model_under_flag_embeddings_name(tiny_checkpoint: Path, function: BGEM3EmbeddingFunction) -> None:
    with BGEM3EmbeddingFunction(model_name_or_path=str(tiny_checkpoint), use_fp16=False) as named:
        assert named.model_name == str(tiny_checkpoint)
        assert np.array_equal(named(TEXTS)["dense"], function(TEXTS)["dense"])
    BGEM3EmbeddingFunction(tiny_checkpoint, model_name_or_path=str(tiny_checkpoint)).close()
    with pytest.raises(ValueError, match="model_name='a' and model_name_or_path='b' contradict each other"):
        BGEM3EmbeddingFunction("a", model_name_or_path="b")


def test_positions_are_pymilvus_models(tiny_checkpoint: Path) -> None:
    with BGEM3EmbeddingFunction(str(tiny_checkpoint), 4, "cpu", False, False, True, False) as function:
        assert (function.batch_size, function.device, function.normalize_embeddings) == (4, "cpu", False)
        assert list(function(TEXTS)) == ["dense"]
    with pytest.raises(TypeError, match="batch_size='cpu' is no number: it comes second; write device='cpu'"):
        BGEM3EmbeddingFunction(str(tiny_checkpoint), "cpu")


@pytest.mark.parametrize(
    "without_effect",
    [
        {"trust_remote_code": True},
        {"trust_remote_code": False},
        {"pooling_method": "cls"},
        {"use_bf16": False},
        {"query_instruction_for_retrieval": None},
        {"query_instruction_for_retrieval": "", "query_instruction_format": "{}{}"},
        {"colbert_dim": -1, "truncate_dim": None},
        {"cache_dir": None, "devices": None, "max_length": None, "precision": None},
    ],
    ids=str,
)
def test_values_that_change_nothing_are_taken(
    without_effect: dict, tiny_checkpoint: Path, function: BGEM3EmbeddingFunction
) -> None:
    with BGEM3EmbeddingFunction(tiny_checkpoint, **without_effect) as other:
        assert np.array_equal(other(TEXTS)["dense"], function(TEXTS)["dense"])


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("pooling_method", "mean", "called 'cls'"),
        ("use_bf16", True, 'precision="bf16"'),
        ("query_instruction_for_retrieval", "query: ", "takes no instruction"),
        ("colbert_dim", 128, "the checkpoint's head"),
        ("truncate_dim", 256, "cut them yourself"),
        ("trust_remote_code", "yes", "runs no code"),
    ],
)
def test_values_that_would_change_something_say_why_not(name: str, value: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value!r} is not available: .*{why}"):
        BGEM3EmbeddingFunction("nowhere", **{name: value})


def test_normalization_can_be_switched_off(tiny_checkpoint: Path, function: BGEM3EmbeddingFunction) -> None:
    raw = np.stack(BGEM3EmbeddingFunction(tiny_checkpoint, normalize_embeddings=False)(TEXTS)["dense"])
    unit = np.stack(function(TEXTS)["dense"])
    assert np.linalg.norm(raw, axis=1).min() > 1.5
    assert raw / np.linalg.norm(raw, axis=1, keepdims=True) == pytest.approx(unit, abs=1e-5)


def test_a_missing_head_is_told_at_once(tmp_path: Path) -> None:
    from random_checkpoint import write_random_checkpoint

    folder = write_random_checkpoint(tmp_path / "m", heads=("colbert",))
    with pytest.raises(MissingHeadError, match="return_sparse=False"):
        BGEM3EmbeddingFunction(folder)
    assert list(BGEM3EmbeddingFunction(folder, return_sparse=False, return_colbert_vecs=True)(TEXTS)) == [
        "dense",
        "colbert_vecs",
    ]
