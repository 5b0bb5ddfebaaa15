"""What torch can compute on here, and in which precision. Knows nothing of models."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from trivec.engines.precisions import PRECISIONS, check_engine_has, computed_by
from trivec.errors import DeviceError

DTYPES = {name: getattr(torch, PRECISIONS[name].torch_dtype) for name in computed_by(["torch"])}
# From this compute capability on (A100), GPUs multiply bfloat16 natively, and torch's flash attention runs.
_AMPERE = (8, 0)
# Torch before this gives wrong numbers on "mps": attention over transposed tensors, broadcast masks, sorts of int64.
_MPS_SINCE = (2, 13)


def devices_there() -> list[str]:
    """Names of the devices that torch finds: GPUs first, "cpu" last."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available() and torch.__version__ >= _MPS_SINCE:
        found.append("mps")
    return [*found, "cpu"]


def resolve_device(name: str) -> torch.device:
    """The device called `name`: "cpu", "mps", "cuda" (torch's current GPU) or "cuda:n".

    Raises:
        DeviceError: It is not there; the message lists those that are. Or torch is too old.
    """
    if torch.__version__ < (2, 10):
        raise DeviceError(f'torch {torch.__version__} is too old for device={name!r}: run `pip install "torch>=2.10"`')
    if name == "mps" and torch.__version__ < _MPS_SINCE:
        raise DeviceError(
            f"torch {torch.__version__} computes wrong numbers on device='mps': "
            'run `pip install "torch>=2.13"`, or take device="cpu"'
        )
    found = devices_there()
    if name == "cuda" and torch.cuda.is_available():
        name = f"cuda:{torch.cuda.current_device()}"
    if name not in found:
        raise DeviceError(
            f"device={name!r} is not available: torch {torch.__version__} finds {', '.join(map(repr, found))} here"
        )
    return torch.device(name)


def resolve_precision(wanted: str, device: torch.device) -> str:
    """What `wanted` ("auto", or one of `DTYPES`) means on a device.

    "auto" is bf16 on a GPU that multiplies it natively, fp16 on an older one, and fp32 on "cpu" and "mps".

    Raises:
        DeviceError: The device does not compute in it.
    """
    has_bf16 = device.type != "cuda" or is_ampere(device)
    if wanted == "auto":
        return "fp32" if device.type != "cuda" else "bf16" if has_bf16 else "fp16"
    check_engine_has(wanted, "torch")
    if wanted == "bf16" and not has_bf16:
        raise DeviceError(
            f'precision="bf16" needs a GPU of compute capability 8.0, {torch.cuda.get_device_name(device)} has less: '
            'use "fp16" or "auto"'
        )
    return wanted


def is_ampere(device: torch.device) -> bool:
    """Whether a CUDA device is of compute capability 8.0 or above; False for any other device."""
    return device.type == "cuda" and bool(torch.cuda.get_device_capability(device) >= _AMPERE)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor from the host to a device, to a GPU without waiting for what it is computing."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def is_shortage(error: RuntimeError) -> bool:
    """Whether an error of torch says that the device has no memory left; cuBLAS and the driver say it their own way."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)
        or (isinstance(error, torch.AcceleratorError) and "out of memory" in str(error))
    )


_exact_users = 0
_exact_lock = threading.Lock()
_settings_before: list[str] = []


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Multiply float32 as float32, whatever the program around has set: no TF32 on GPUs, no bfloat16 on CPUs.

    torch has one setting for all threads, so the first to enter changes it and the last to leave puts it back.
    """
    global _exact_users  # noqa: PLW0603 -- torch's setting is global, and so is the count of who needs it
    with _exact_lock:
        if _exact_users == 0:
            _settings_before[:] = _float32_settings()
            # Of torch's two ways to say it, the older one sets both; if they contradict each other, products fail.
            torch.set_float32_matmul_precision("highest")
        _exact_users += 1
    try:
        yield
    finally:
        with _exact_lock:
            _exact_users -= 1
            if _exact_users == 0:
                older, gpu, cpu = _settings_before
                torch.set_float32_matmul_precision(older)
                for backend, before in ((torch.backends.cuda, gpu), (torch.backends.mkldnn, cpu)):
                    # A setting that was inherited from a wider one shall go on following it.
                    backend.matmul.fp32_precision = "none"
                    if backend.matmul.fp32_precision != before:
                        backend.matmul.fp32_precision = before


def _float32_settings() -> tuple[str, str, str]:
    """What torch is told by its older setting, and by its newer ones for products on GPUs and CPUs."""
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # only the newer ones were used, and the older one was left as it comes
        older = "highest"
    return older, torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
