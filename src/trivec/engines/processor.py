"""What this processor computes fast, and which precision that makes `auto`. Knows nothing about models."""

from __future__ import annotations

import platform
from pathlib import Path

from trivec.engines.openvino_runtime import ov
from trivec.errors import DeviceError

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
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_int8() -> bool:
    """Whether the processor multiplies 8-bit numbers natively, as far as the system can be asked.

    Without such instructions full-range 8-bit products may overflow, so where Linux cannot be asked only what is sure
    to have them counts: ARM64, and x86 with bfloat16, which came later.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return has_bf16() or platform.machine().lower() in ("arm64", "aarch64")
    return any(line.startswith(("flags", "Features")) and _INT8_PRODUCTS & set(line.split()) for line in lines)
