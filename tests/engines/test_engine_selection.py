"""Names of engines, devices and precisions: what goes together, and what the errors say."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.engines.selection import choose_engine
from trivec.errors import DeviceError, MissingExtraError


@pytest.mark.parametrize("device", [None, "cpu", "CPU", ["cpu"], ("cpu", "cpu"), []])
@pytest.mark.parametrize("engine", ["auto", "openvino", "native"])
def test_the_cpu_needs_no_torch(engine: str, device: object) -> None:
    assert choose_engine(engine, device) == (engine, ["cpu"])


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:-1", "gpu", "", 0, ["cpu", None]])
@pytest.mark.parametrize("engine", ["auto", "openvino", "native", "torch"])
def test_what_is_no_device(engine: str, device: object) -> None:
    with pytest.raises(DeviceError, match=r"device=.* is not available: give 'cpu', 'cuda'"):
        choose_engine(engine, device)


def test_cpu_engines_have_no_gpu(tiny_checkpoint: Path) -> None:
    with pytest.raises(DeviceError, match=r"device='cuda:0': the OpenVINO engine computes on 'cpu'"):
        M3Model.load(tiny_checkpoint, device="cuda:0", engine="openvino")
    with pytest.raises(DeviceError, match=r"device='cuda:0': the native engine computes on 'cpu'"):
        M3Model.load(tiny_checkpoint, device="cuda:0", engine="native")
    on_cpu = r'precision="fp16" \(fast, on GPUs\): the CPU computes in "fp32", "bf16" and "int8"'
    with pytest.raises(DeviceError, match=on_cpu):
        M3Model.load(tiny_checkpoint, precision="fp16")
    with pytest.raises(DeviceError, match=on_cpu):
        BGEM3EmbeddingFunction(tiny_checkpoint, precision="fp16")


def test_what_is_no_engine() -> None:
    with pytest.raises(ValueError, match="engine='onnx' is not one of 'auto', 'openvino', 'native', 'torch'"):
        M3Model.load("nowhere", engine="onnx")


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed here")
@pytest.mark.parametrize("choice", [{"device": "cuda:0"}, {"device": "mps"}, {"engine": "torch", "device": "cpu"}])
def test_without_torch_the_extra_is_named_before_anything_is_fetched(choice: dict) -> None:
    for load in (M3Model.load, BGEM3EmbeddingFunction):
        with pytest.raises(MissingExtraError, match=r"torch is not installed: run `pip install \"trivec\[cuda\]\"`"):
            load("nowhere/no-such-model", **choice)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch: run `make parity`")
def test_torch_computes_on_the_cpu_on_request(tiny_checkpoint: Path) -> None:
    assert choose_engine("torch", ["cpu", "cpu"]) == ("torch", ["cpu", "cpu"])
    function = BGEM3EmbeddingFunction(tiny_checkpoint, device="cpu", engine="torch")
    assert function.model.precision == "fp32"
    with pytest.raises(DeviceError, match="device='cuda:99' is not available: torch"):
        M3Model.load("nowhere/no-such-model", device="cuda:99")
