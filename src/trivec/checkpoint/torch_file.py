"""Reads a file written by `torch.save` without torch and without executing anything in it.

Such a file is a zip archive: `data.pkl` describes the tensors, `data/0`, `data/1`, ... hold their bytes, uncompressed.
A pickle is a program; the unpickler here admits the few names that rebuild a tensor and refuses every other one before
it is looked up. Storages are memory-mapped. Knows nothing about the model.
"""

from __future__ import annotations

import math
import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from trivec.checkpoint.tensors import NUMPY_VIEW, StoredTensor
from trivec.errors import CheckpointError

_STORAGE_DTYPES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
# Integer buffers (old checkpoints carry `position_ids`) are admitted so that the file opens; the model reads none.
_NUMPY_TYPES: dict[str, np.dtype[Any]] = NUMPY_VIEW | {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# What unpickling a damaged or hostile stream can raise.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read_torch_file(path: Path) -> dict[str, StoredTensor]:
    """Map a state dict written by `torch.save` (the zip format, torch >= 1.6).

    Returns:
        Every tensor in the file by name, as views of one private memory map.

    Raises:
        CheckpointError: The file is truncated, not a torch file, in the format of torch < 1.6, or its pickle asks for
            anything but tensors (nothing of it is executed).
    """
    with path.open("rb") as file:
        if file.read(2) == b"\x80\x02":
            raise CheckpointError(
                f"{path} is in the format of torch < 1.6, a bare pickle, which is not read for safety: "
                "save it again with a current torch, or as safetensors"
            )
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            # OpenVINO shares only arrays that could be written; a private map can, without touching the file.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            return _read_archive(archive, mapped, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} is truncated or no torch file ({size:,} bytes; {error}): download it again"
        ) from error


def _read_archive(archive: zipfile.ZipFile, mapped: mmap.mmap, path: Path) -> dict[str, StoredTensor]:
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is a zip archive without a data.pkl, so not one that torch.save wrote")
    prefix = pickles[0][: -len("data.pkl")]
    if prefix + "byteorder" in entries and archive.read(prefix + "byteorder") != b"little":
        raise CheckpointError(f"{path} was saved on a big-endian machine; save it again on a little-endian one")

    def storage(key: str, dtype: str) -> np.ndarray[Any, Any]:
        info = entries.get(f"{prefix}data/{key}")
        if info is None:
            raise pickle.UnpicklingError(f"storage {key} is not in the archive")
        if info.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"storage {key} is compressed, which torch.save never does")
        # The local header repeats the name, and an extra field that torch pads for alignment: only it gives the start.
        name_size, extra_size = struct.unpack_from("<HH", mapped, info.header_offset + 26)
        begin = info.header_offset + 30 + name_size + extra_size
        numpy_type = _NUMPY_TYPES[dtype]
        return np.frombuffer(mapped, numpy_type, info.file_size // numpy_type.itemsize, begin)

    try:
        state = _TensorUnpickler(archive.read(pickles[0]), storage).load()
    except _ForbiddenGlobalError as error:
        raise CheckpointError(
            f"{path} is not safe: its pickle asks for {error}, which no tensor needs; nothing was executed. "
            "Get the file from a source you trust, or as safetensors"
        ) from error
    except _PICKLE_ERRORS as error:
        raise CheckpointError(f"{path} is damaged: its pickle does not describe tensors ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dict of tensors")
    tensors = {name: value.tensor for name, value in state.items() if isinstance(value, _Rebuilt)}
    if not all(isinstance(name, str) for name in tensors):
        raise CheckpointError(f"{path} is damaged: it has tensors under names that are no text; download it again")
    return tensors


class _ForbiddenGlobalError(Exception):
    """The pickle named something that is not part of rebuilding a tensor."""


class _Sealed:
    """A value handed to the pickle that it can neither call into pieces nor set state on."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("the pickle sets state where tensors have none")


class _StorageType(_Sealed):
    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class _Builder(_Sealed):
    """A sealed callable: REDUCE may call it, BUILD may not change it."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)


class _Rebuilt(_Sealed):
    """A tensor inside the pickle."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: StoredTensor) -> None:
        self.tensor = tensor


class _StateDict(dict[Any, Any]):
    """Stands in for OrderedDict; the `_metadata` that torch hangs on it is dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, stream: bytes, storage: Callable[[str, str], np.ndarray[Any, Any]]) -> None:
        super().__init__(BytesIO(stream))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return _Builder(_StateDict)
            case "torch._utils", "_rebuild_tensor_v2":
                return _Builder(_rebuild_tensor)
            case "torch._utils", "_rebuild_parameter":
                return _Builder(_rebuild_parameter)
            case "torch", _ if name in _STORAGE_DTYPES:
                return _StorageType(_STORAGE_DTYPES[name])
        raise _ForbiddenGlobalError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _location, _count = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"unknown reference {pid!r}")
        return _Rebuilt(StoredTensor(self._storage(key, storage_type.dtype), storage_type.dtype))


def _rebuild_tensor(
    storage: _Rebuilt, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_unused: Any
) -> _Rebuilt:
    if not isinstance(storage, _Rebuilt):
        raise pickle.UnpicklingError("a tensor without a storage")
    stored = storage.tensor.data
    if min((offset, *size, *stride), default=0) < 0:
        raise pickle.UnpicklingError("a tensor with a negative offset, size or stride")
    if math.prod(size) > stored.size:
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(size)} over a storage of {stored.size} elements")
    itemsize = stored.itemsize
    # np.ndarray checks that offset, shape and strides stay inside the storage (a truncated storage raises here).
    data: np.ndarray[Any, Any] = np.ndarray(
        tuple(size), stored.dtype, stored.data, offset * itemsize, tuple(s * itemsize for s in stride)
    )
    return _Rebuilt(StoredTensor(data, storage.tensor.dtype))


def _rebuild_parameter(tensor: _Rebuilt, *_unused: Any) -> _Rebuilt:
    return tensor
