"""What this processor computes fast, and which precision that makes `auto`. Knows nothing about models.

Machines differ in what they choose, and a test suite sees one machine only. For it, the environment variable
TRIVEC_PROCESSOR_CLASS names a class of processors: what that class lacks is then taken as lacking here too. It only
takes away. What the real processor lacks stays lacking, so nothing is run that could not be; the same machine run
as a lower class chooses as that class would, and computes what it chose with the instructions it has.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from trivec.engines.openvino_runtime import ov
from trivec.errors import DeviceError

PROCESSOR_CLASS = "TRIVEC_PROCESSOR_CLASS"
# What each class of processors multiplies natively.
_CLASSES = {
    "arm": {"int8"},
    "avx2": {"avx2"},
    "avx512_vnni": {"avx2", "int8"},
    "avx512_bf16": {"avx2", "int8", "bf16"},
    "amx": {"avx2", "int8", "bf16"},
}
# Linux' names of the instructions that multiply 8-bit numbers and add up in 32 bits, on x86 and ARM.
_INT8_PRODUCTS = {"amx_int8", "avx512_vnni", "avx_vnni", "asimddp"}


def cpu_precision(wanted: str) -> str:
    """What `wanted` ("auto", "fp32", "bf16" or "int8") means on this processor: "fp32", "bf16" or "int8".

    "auto" is bf16 where the processor multiplies bfloat16 natively (AMX or AVX512-BF16), else fp32; int8 is never
    chosen unasked.

    Raises:
        DeviceError: The processor has no instructions for what is asked for.
    """
    if wanted == "bf16" and not has_bf16():
        raise DeviceError(
            'precision="bf16" needs a processor with AMX or AVX512-BF16, which this one lacks: use "fp32" or "auto"'
        )
    if wanted == "int8" and not has_int8():
        raise DeviceError(
            'precision="int8" needs a processor with AMX or VNNI, which this one lacks: use "fp32" or "auto"'
        )
    if wanted == "auto":
        return "bf16" if has_bf16() else "fp32"
    return wanted


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    return _class_has("bf16") and "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_int8() -> bool:
    """Whether the processor multiplies 8-bit numbers natively, as far as the system can be asked.

    Without such instructions full-range 8-bit products may overflow, so where Linux cannot be asked only what is sure
    to have them counts: ARM64, and x86 with bfloat16, which came later.
    """
    if not _class_has("int8"):
        return False
    flags = _linux_flags()
    if flags is None:
        return has_bf16() or platform.machine().lower() in ("arm64", "aarch64")
    return bool(_INT8_PRODUCTS & flags)


def _linux_flags() -> set[str] | None:
    """Linux' names of the processor's instructions; None where there is no Linux to ask."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())


def _class_has(instructions: str) -> bool:
    """Whether the class of processors that is played has them; every class does unless one is named."""
    name = os.environ.get(PROCESSOR_CLASS)
    if not name:
        return True
    if name not in _CLASSES:
        raise DeviceError(f"{PROCESSOR_CLASS}={name!r} is not one of {', '.join(_CLASSES)}")
    return instructions in _CLASSES[name]
