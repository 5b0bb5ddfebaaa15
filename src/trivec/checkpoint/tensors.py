"""A tensor as it lies in a checkpoint file: memory-mapped, in the precision it was saved in.

This module knows dtypes and shapes. It does not know file formats or what the tensor means to the model.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# How each stored dtype (named as in safetensors) is viewed by numpy, which lacks bfloat16: its bits are read as uint16.
NUMPY_VIEW: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
}
# What a checkpoint's weights may be stored as. I8 is for weights that trivec has quantized itself: elsewhere nobody
# knows the scales that belong to them.
WEIGHT_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor, usually memory-mapped; not to be written to.

    Attributes:
        data: The stored elements; bfloat16 is held as its bit pattern in uint16.
        dtype: "F32", "F16", "BF16", "I8", or another safetensors name ("I64", ...) for tensors the model never reads.
    """

    data: npt.NDArray[np.generic]
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.data.shape

    def float32(self) -> npt.NDArray[np.float32]:
        """Return the whole tensor as float32; a float32 tensor is returned as it is mapped, without a copy."""
        return _to_float32(self.data, self.dtype)

    def rows(self, index: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return the rows `index` (any shape) as float32, reading only those: shape `index.shape + shape[1:]`."""
        return _to_float32(np.take(self.data, index, axis=0), self.dtype)


def release_pages(tensors: Iterable[StoredTensor]) -> None:
    """Give back the memory of file pages that have been read through the maps behind `tensors`; of these tensors alone.

    The tensors stay usable: what is read again comes from the file again. Does nothing for tensors that are not mapped,
    nor where the platform offers no way to.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for tensor in tensors:
        mapped = _memory_map(tensor.data)
        if mapped is None or not tensor.data.nbytes:
            continue
        start = _address(tensor.data) - _address(np.frombuffer(mapped, np.uint8))
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, page, start + tensor.data.nbytes - page)


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _memory_map(data: Any) -> mmap.mmap | None:
    """The map that an array is a view of, through the arrays and memory views between."""
    while isinstance(data, (np.ndarray, memoryview)):
        data = data.base if isinstance(data, np.ndarray) else data.obj
    return data if isinstance(data, mmap.mmap) else None


def _to_float32(data: npt.NDArray[np.generic], dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        return (data.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data.astype(np.float32, copy=False)
