"""The precisions and engines there are: which goes with which, and what each is called elsewhere. One table.

Loads nothing, so that the command line can read it to print its help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trivec.errors import DeviceError

CPU_ENGINES = ("openvino", "native")
ENGINES = ("auto", *CPU_ENGINES, "torch")


@dataclass(frozen=True)
class Precision:
    """What the encoder can compute in.

    Attributes:
        meaning: What it is for, in the words of help and errors.
        engines: The engines that compute in it; whether this processor or GPU does is `processor`'s to say, and
            `pytorch.devices`'.
        openvino_type: OpenVINO's name of the type that it may fuse what is not spelled out in.
        torch_dtype: torch's name of its dtype.
        converted_as: By engine, what the weights converted for it are called on disk; without a name, none are kept.
    """

    meaning: str
    engines: tuple[str, ...]
    openvino_type: str = ""
    torch_dtype: str = ""
    converted_as: Mapping[str, str] = field(default_factory=dict)


PRECISIONS = {
    "fp32": Precision("exact", ("openvino", "native", "torch"), "f32", "float32"),
    "fp16": Precision("fast, on GPUs", ("torch",), "", "float16"),
    "bf16": Precision("fast", ("openvino", "torch"), "bf16", "bfloat16", {"openvino": "bf16"}),
    "int8": Precision(
        "fastest on CPUs, least exact", CPU_ENGINES, "f32", "", {"openvino": "int8", "native": "int8avx2"}
    ),
}
# What can be asked for. What "auto" stands for is decided by `processor.choose_for_cpu` and `pytorch.devices`.
PRECISION_CHOICES = ("auto", *PRECISIONS)


def computed_by(engines: Iterable[str]) -> list[str]:
    """The precisions that some of these engines compute in."""
    return [name for name, precision in PRECISIONS.items() if set(engines) & set(precision.engines)]


def check_engine_has(precision: str, engine: str) -> None:
    """Make sure that an engine, or with "auto" one for the CPU, computes in a precision or decides on one ("auto").

    Raises:
        DeviceError: It does not; the message names those that it computes in.
    """
    there = computed_by(CPU_ENGINES if engine == "auto" else [engine])
    if precision not in ("auto", *there):
        who = "CPU" if engine == "auto" else f"{'OpenVINO' if engine == 'openvino' else engine} engine"
        listed = ", ".join(f'"{name}"' for name in there[:-1])
        raise DeviceError(
            f'precision="{precision}" ({PRECISIONS[precision].meaning}): the {who} computes in {listed} and '
            f'"{there[-1]}"; give one, or "auto"'
        )
