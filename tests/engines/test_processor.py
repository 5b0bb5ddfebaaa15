"""Playing a lower class of processors: it takes away, and never claims what the real one lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trivec import M3Model
from trivec.engines import processor
from trivec.engines.native import library
from trivec.errors import DeviceError


@pytest.mark.parametrize(
    ("name", "bf16", "int8"),
    [("arm", False, True), ("avx2", False, False), ("avx512_vnni", False, True), ("amx", True, True)],
)
def test_a_class_only_takes_away(name: str, bf16: bool, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processor.PROCESSOR_CLASS, raising=False)
    real = processor.has_bf16(), processor.has_int8()
    monkeypatch.setenv(processor.PROCESSOR_CLASS, name)
    assert (processor.has_bf16(), processor.has_int8()) == (bf16 and real[0], int8 and real[1])
    assert processor.choose_for_cpu("auto").precision == ("bf16" if bf16 and real[0] else "fp32")


def test_the_lowest_class_refuses_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx2")
    with pytest.raises(DeviceError, match='precision="bf16" needs a processor with AMX or AVX512-BF16'):
        processor.choose_for_cpu("bf16")


def test_a_class_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx1024")
    with pytest.raises(DeviceError, match="TRIVEC_PROCESSOR_CLASS='avx1024' is not one of arm, avx2"):
        processor.has_int8()


needs_native = pytest.mark.skipif(processor.missing_for_native() is not None, reason="there is no native engine here")


@needs_native
def test_the_avx2_class_computes_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx2")
    for precision in ("fp32", "int8"):
        choice = processor.choose_for_cpu(precision)
        assert (choice.engine, choice.precision) == ("native", precision)
    assert processor.choose_for_cpu("auto").precision == "fp32"
    assert "AVX2 and nothing newer" in processor.choose_for_cpu("auto").engine_because
    assert processor.choose_for_cpu("fp32", "openvino").engine == "openvino"
    with pytest.raises(DeviceError, match='engine="openvino" needs a processor with AMX or VNNI'):
        processor.choose_for_cpu("int8", "openvino")
    with pytest.raises(DeviceError, match='the native engine computes in "fp32" and "int8"'):
        processor.choose_for_cpu("bf16", "native")


def test_a_class_without_avx2_has_no_native_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "arm")
    assert processor.choose_for_cpu("fp32").engine == "openvino"
    with pytest.raises(
        DeviceError, match='engine="native" is not available: the native engine is for x86-64 with AVX2'
    ):
        processor.choose_for_cpu("fp32", "native")


@needs_native
def test_without_kernels_int8_is_refused_with_the_remedy(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx2")
    monkeypatch.setattr(library, "FILE", tmp_path / "not-built.so")
    with pytest.raises(DeviceError, match=r"needs a processor with AMX or VNNI.* without the native .*apt install gcc"):
        M3Model.load(tiny_checkpoint, precision="int8")
    assert "the faster one here, is missing" in processor.choose_for_cpu("auto").engine_because
    with M3Model.load(tiny_checkpoint) as model:  # everything else works
        assert model.precision == "fp32"
        assert model.encode(["a"]).dense.shape == (1, 32)


@needs_native
def test_kernels_that_the_system_cannot_load_are_done_without(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that were built against a newer C library."""
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx2")
    monkeypatch.setattr(library, "FILE", tmp_path / "damaged.so")
    library.FILE.write_bytes(b"no library")
    library._library.cache_clear()
    with pytest.raises(
        DeviceError, match=r"kernels cannot be loaded \(.*damaged.so: file too short\).*apt install gcc"
    ):
        M3Model.load(tiny_checkpoint, precision="int8")
    with M3Model.load(tiny_checkpoint) as model:
        assert model.encode(["a"]).dense.shape == (1, 32)


def test_cores_are_those_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    assert 1 <= processor.available_cores() <= len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processor.available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
