"""What this processor computes fast, and which precision and engine that makes `auto`. Knows nothing about models.

Machines differ in what they choose, and a test suite sees one machine only. For it, the environment variable
TRIVEC_PROCESSOR_CLASS names a class of processors: what that class lacks is then taken as lacking here too. It only
takes away. What the real processor lacks stays lacking, so nothing is run that could not be; the same machine run
as a lower class chooses as that class would, and computes what it chose with the instructions it has.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from trivec.engines.native.library import why_missing
from trivec.engines.openvino.runtime import core
from trivec.engines.precisions import check_engine_has
from trivec.errors import DeviceError

PROCESSOR_CLASS = "TRIVEC_PROCESSOR_CLASS"
# What each class of processors multiplies natively.
_CLASSES = {
    "arm": {"int8"},
    "avx2": {"avx2"},
    "avx512_vnni": {"avx2", "avx512", "int8"},
    "avx512_bf16": {"avx2", "avx512", "int8", "bf16"},
    "amx": {"avx2", "avx512", "int8", "bf16"},
}
# Linux' names of the instructions that multiply 8-bit numbers and add up in 32 bits, on x86 and ARM.
_INT8_PRODUCTS = {"amx_int8", "avx512_vnni", "avx_vnni", "asimddp"}
_NO_BF16 = "the processor has neither AMX nor AVX512-BF16"


@dataclass(frozen=True)
class CpuChoice:
    """How this processor computes.

    Attributes:
        engine: Out of `precisions.CPU_ENGINES`.
        precision: One that it computes in.
        because: Why that precision.
        engine_because: Why that engine.
    """

    engine: str
    precision: str
    because: str
    engine_because: str


def choose_for_cpu(precision: str, engine: str = "auto") -> CpuChoice:
    """Decide what a precision and engine mean on this processor.

    "auto" is bf16 where the processor multiplies bfloat16 natively (AMX or AVX512-BF16), else fp32; int8 is never
    chosen unasked. The engine is OpenVINO, but on x86-64 with AVX2 and nothing newer the native one: for int8 because
    OpenVINO's is slower than its float32 there, for fp32 because it is the faster of two exact ones.

    Args:
        precision: Out of `precisions.PRECISION_CHOICES`.
        engine: "auto", or out of `precisions.CPU_ENGINES`.

    Raises:
        DeviceError: The processor, or the engine asked for, cannot compute in that precision.
    """
    if engine == "native" and (missing := missing_for_native()):
        raise DeviceError(f'engine="native" is not available: {missing}')
    check_engine_has(precision, engine)
    if precision == "int8":
        return _choose_for_int8(engine)
    if precision == "bf16" and not has_bf16():
        raise DeviceError(
            'precision="bf16" needs a processor with AMX or AVX512-BF16, which this one lacks: use "fp32" or "auto"'
        )
    if precision == "bf16" or (precision == "auto" and engine != "native" and has_bf16()):
        because = "the processor multiplies bfloat16 natively (AMX or AVX512-BF16)"
        return CpuChoice("openvino", "bf16", because, "it is the one that computes in bfloat16")
    because = "it is asked for"
    if precision == "auto":
        because = "the native engine does not compute in bfloat16" if has_bf16() else _NO_BF16
    if engine != "auto":
        return CpuChoice(engine, "fp32", because, "it is asked for")
    if not _has_avx2_and_nothing_newer():
        return CpuChoice("openvino", "fp32", because, "it is the faster one on this processor")
    if missing := missing_for_native():
        return CpuChoice("openvino", "fp32", because, f"the native engine, the faster one here, is missing: {missing}")
    return CpuChoice("native", "fp32", because, "it is the faster one on a processor with AVX2 and nothing newer")


def _choose_for_int8(engine: str) -> CpuChoice:
    because = "it is asked for"
    if engine != "native" and has_int8():
        return CpuChoice("openvino", "int8", because, "the processor multiplies 8-bit numbers natively")
    if engine == "openvino":
        raise DeviceError(
            'precision="int8" with engine="openvino" needs a processor with AMX or VNNI, which this one lacks: use '
            'engine="auto"'
        )
    if missing := missing_for_native():
        raise DeviceError(
            f'precision="int8" needs a processor with AMX or VNNI, which this one lacks, or the native engine, and '
            f'{missing}; use "fp32" or "auto"'
        )
    return CpuChoice("native", "int8", because, "it multiplies 8-bit weights with AVX2")


def offers_int8() -> bool:
    """Whether some engine computes in int8 here."""
    return has_int8() or not missing_for_native()


def missing_for_native() -> str | None:
    """Why the native engine cannot be used here; None if it can."""
    if not (_class_has("avx2") and {"avx2", "fma"} <= (_linux_flags() or set())):
        return "the native engine is for x86-64 with AVX2 and FMA, under Linux"
    if missing := why_missing():
        return (
            f"{missing}: with a C compiler at hand (Debian, Ubuntu: apt install gcc), install it from its source again"
        )
    return None


def _has_avx2_and_nothing_newer() -> bool:
    """Whether this is x86-64 where OpenVINO has nothing but AVX2 to compute in float32 with."""
    flags = _linux_flags() or set()
    return _class_has("avx2") and "avx2" in flags and not ("avx512f" in flags and _class_has("avx512"))


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    return _class_has("bf16") and "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_int8() -> bool:
    """Whether the processor multiplies 8-bit numbers natively, as OpenVINO needs, as far as the system can be asked.

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


def available_cores() -> int:
    """How many cores this process may use: those it is bound to, hyperthreads counted once, within its container's."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # no Linux
        return os.cpu_count() or 1
    cores = {_siblings(number) for number in allowed}
    return max(1, min(len(cores), _container_share()))


def _siblings(number: int) -> str:
    """The hyperthreads of the core that has the hyperthread `number`, in Linux' words."""
    path = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return str(number)


def _container_share() -> int:
    """How many cores' time a container grants, rounded up; very many if it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no container, or "max"
        return 1 << 20
