"""Playing a lower class of processors: it takes away, and never claims what the real one lacks."""

from __future__ import annotations

import pytest

from trivec.engines import processor
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
    assert processor.cpu_precision("auto") == ("bf16" if bf16 and real[0] else "fp32")


def test_the_lowest_class_refuses_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx2")
    with pytest.raises(DeviceError, match='precision="bf16" needs a processor with AMX or AVX512-BF16'):
        processor.cpu_precision("bf16")


def test_a_class_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.PROCESSOR_CLASS, "avx1024")
    with pytest.raises(DeviceError, match="TRIVEC_PROCESSOR_CLASS='avx1024' is not one of arm, avx2"):
        processor.has_int8()
