"""Which engine computes on which devices: turns the names a user gives into a loaded engine.

Knows names and what goes together; loads an engine's runtime only once that engine is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack

from trivec.checkpoint import Checkpoint
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines import Engine
from trivec.engines.precisions import CPU_ENGINES, ENGINES
from trivec.errors import DeviceError
from trivec.support.extras import require

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def choose_engine(engine: str, device: str | Sequence[str] | None) -> tuple[str, list[str]]:
    """Decide which engine is meant, and make sure that its devices are there.

    Args:
        engine: Out of `ENGINES`. "auto" is torch on anything but the CPU, and on the CPU stays "auto": which of the two
            it is there depends on the precision (`processor.choose_for_cpu`).
        device: A device's name, several of them, or None for the engine's own choice: the CPU, but for "torch" the
            first GPU if there is one.

    Returns:
        One of `ENGINES`, and the names of at least one device.

    Raises:
        ValueError: There is no such engine.
        DeviceError: A device is not there, none that trivec knows, or not of that engine.
        MissingExtraError: The engine is torch, which is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r} is not one of {', '.join(map(repr, ENGINES))}")
    given = list(device) if isinstance(device, (list, tuple)) else [] if device is None else [device]
    names = [str(name).lower() for name in given]
    for name, wanted in zip(names, given, strict=True):
        if not _DEVICE.fullmatch(name):
            raise DeviceError(f"device={wanted!r} is not available: give 'cpu', 'cuda', 'cuda:0' (a number) or 'mps'")
        if engine in CPU_ENGINES and name != "cpu":
            called = "OpenVINO" if engine == "openvino" else engine
            raise DeviceError(f"device={wanted!r}: the {called} engine computes on 'cpu'; use engine=\"torch\"")
    if engine in CPU_ENGINES or (engine == "auto" and set(names) <= {"cpu"}):
        return engine, ["cpu"]
    require("torch", "cuda")
    from trivec.engines.pytorch.devices import devices_there, resolve_device

    return "torch", [str(resolve_device(name)) for name in names or devices_there()[:1]]


def reduced_precision(engine: str, device: str | Sequence[str] | None) -> str:
    """Return what `use_fp16=True` stands for: float16 where a device is not the CPU, there the fastest there is."""
    _, devices = choose_engine(engine, device)
    return "fp16" if set(devices) != {"cpu"} else "auto"


def devices_by_number(given: str | int | Sequence[str] | Sequence[int] | None) -> str | list[str] | None:
    """Return devices as FlagEmbedding takes them, where a number is a GPU's, by their names."""
    if given is None or isinstance(given, str):
        return given or None
    if isinstance(given, int):
        return f"cuda:{int(given)}"
    return [f"cuda:{one}" if isinstance(one, int) else str(one) for one in given]


def load_engine(
    checkpoint: Checkpoint,
    tokenizer: M3Tokenizer,
    engine: str,
    device: str | Sequence[str] | None,
    precision: str,
    num_threads: int | None,
    use_cache: bool,
) -> Engine:
    """Load an engine, or one a device where several are given.

    Args:
        checkpoint: The opened model folder.
        tokenizer: Its tokenizer.
        engine: As in `choose_engine`.
        device: As in `choose_engine`.
        precision: "auto", or one that the engine computes in.
        num_threads: Threads to compute with on the CPU, for torch those of the whole process; every core if None.
        use_cache: Whether weights converted for the CPU are kept on disk; torch converts while it copies.

    Raises:
        ValueError: There is no such engine.
        DeviceError: A device or the precision is not available, or several devices would differ in precision: then a
            text's vectors would depend on which of them got it.
        MissingExtraError: The engine is torch, which is not installed.
    """
    kind, devices = choose_engine(engine, device)
    if kind != "torch":
        return _load_cpu_engine(checkpoint, tokenizer, kind, precision, num_threads, use_cache)

    import torch

    from trivec.engines.device_split import DeviceSplit
    from trivec.engines.pytorch.devices import resolve_precision
    from trivec.engines.pytorch.engine import TorchEngine

    precisions = {name: resolve_precision(precision, torch.device(name)) for name in devices}
    if len(set(precisions.values())) > 1:
        each = ", ".join(f"{name} in {of_device}" for name, of_device in precisions.items())
        raise DeviceError(f"precision={precision!r} differs between the devices ({each}): name one that all have")
    if num_threads is not None and "cpu" in devices:
        torch.set_num_threads(num_threads)
    vocabulary = (tokenizer.vocabulary_size, tokenizer.unused_ids)
    engines: list[TorchEngine] = []
    with ExitStack() as on_failure:  # of a later device, the earlier ones give their memory back
        for name in devices:
            engines.append(TorchEngine(checkpoint, name, precisions[name], *vocabulary))
            on_failure.callback(engines[-1].close)
        on_failure.pop_all()
    return engines[0] if len(engines) == 1 else DeviceSplit(engines)


def _load_cpu_engine(
    checkpoint: Checkpoint,
    tokenizer: M3Tokenizer,
    engine: str,
    precision: str,
    num_threads: int | None,
    use_cache: bool,
) -> Engine:
    from trivec.checkpoint.converted_cache import ConvertedCache
    from trivec.engines.native.engine import NativeEngine
    from trivec.engines.openvino.engine import OpenVINOEngine
    from trivec.engines.processor import choose_for_cpu

    choice = choose_for_cpu(precision, engine)
    kind = NativeEngine if choice.engine == "native" else OpenVINOEngine
    return kind(checkpoint, tokenizer, choice.precision, num_threads, ConvertedCache() if use_cache else None)
