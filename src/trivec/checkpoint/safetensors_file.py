"""Reads and writes `.safetensors` files: an 8-byte length, a JSON header, then raw little-endian tensors.

The safetensors package copies every tensor into memory and has no bfloat16 for numpy; the word-embedding table alone is
1 GB, so a file is mapped here instead and each tensor is a view of the map, and a file is written a tensor at a time.
Knows nothing about the model.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from trivec.checkpoint.tensors import NUMPY_VIEW, StoredTensor
from trivec.errors import CheckpointError

# The header comes first but is known last: this much is kept free for it, enough for 2,000 tensors with long names.
_HEADER_ROOM = 1 << 18
_ALIGNMENT = 64
# The format allows no gaps between tensors, so what aligns the next one is a tensor itself.
_PADDING = "__padding__"


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Map a safetensors file.

    Returns:
        Every tensor in the file by name, as views of one private memory map.

    Raises:
        CheckpointError: The file is truncated, or not a safetensors file.
    """
    with path.open("rb") as file:
        header, start, size = _read_header(path, file)
        # OpenVINO shares only arrays that could be written; a private map can, without touching the file.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    tensors = {}
    try:
        for name, entry in header.items():
            if name == "__metadata__" or name.startswith(_PADDING):
                continue
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            if not start <= begin <= end <= size:
                raise CheckpointError(
                    f"{path} is truncated: tensor {name} ends at byte {end:,}, the file at {size:,}; download it again"
                )
            tensors[name] = _view(mapped, begin, end, str(entry["dtype"]), tuple(map(int, entry["shape"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged_header(path, error) from error
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Read what the writer of a safetensors file noted in its header; empty if nothing.

    Raises:
        CheckpointError: The file is truncated, or not a safetensors file.
    """
    with path.open("rb") as file:
        header, _, _ = _read_header(path, file)
    try:
        return {str(name): str(value) for name, value in header.get("__metadata__", {}).items()}
    except AttributeError as error:
        raise _damaged_header(path, error) from error


def write_safetensors(
    path: Path,
    tensors: Iterable[tuple[str, StoredTensor]],
    metadata: Mapping[str, str],
    *,
    alignment: int = _ALIGNMENT,
) -> None:
    """Write a safetensors file and see it onto the disk; each tensor is written as it comes, and none is kept.

    Args:
        path: The file; it holds no valid header until all tensors are written.
        tensors: Names and tensors of dtype "F32", "F16", "BF16" or "I8".
        metadata: Noted in the header, for `read_metadata`.
        alignment: Every tensor begins at a multiple of this many bytes in the file, behind tensors that only pad. 1 for
            a file that is read by others, who would take those for weights.

    Raises:
        ValueError: A tensor is of another dtype, or there are more than a header has room for.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    with path.open("wb") as file:
        file.seek(_HEADER_ROOM)
        for name, tensor in tensors:
            if tensor.dtype not in NUMPY_VIEW or tensor.data.dtype != NUMPY_VIEW[tensor.dtype]:
                raise ValueError(f"{name} is {tensor.dtype} held as {tensor.data.dtype}, which cannot be written")
            if padding := -offset % alignment:
                file.write(bytes(padding))
                header[f"{_PADDING}{offset}"] = _header_entry("U8", (padding,), offset, padding)
                offset += padding
            file.write(np.ascontiguousarray(tensor.data).data)
            header[name] = _header_entry(tensor.dtype, tensor.shape, offset, tensor.data.nbytes)
            offset += tensor.data.nbytes
        encoded = json.dumps(header).encode()
        room = _HEADER_ROOM - 8
        if len(encoded) > room:
            raise ValueError(f"{path} would need a header of {len(encoded):,} bytes, of which there are {room:,}")
        file.seek(0)
        file.write(room.to_bytes(8, "little") + encoded.ljust(room))
        file.flush()
        os.fsync(file.fileno())


def _header_entry(dtype: str, shape: tuple[int, ...], offset: int, size: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int, int]:
    """The header, where the tensors start, and the size of the file."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise CheckpointError(f"{path} has {size} bytes and is no safetensors file: download it again")
    header_size = int.from_bytes(file.read(8), "little")
    start = 8 + header_size
    if header_size > 100_000_000 or start > size:
        raise CheckpointError(f"{path} is no complete safetensors file ({size:,} bytes): download it again")
    try:
        header = json.loads(file.read(header_size))
    except (ValueError, RecursionError) as error:
        raise _damaged_header(path, error) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a damaged safetensors header (no JSON object): download it again")
    return header, start, size


def _damaged_header(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} has a damaged safetensors header ({error}): download it again")


def _view(mapped: mmap.mmap, begin: int, end: int, dtype: str, shape: tuple[int, ...]) -> StoredTensor:
    if dtype not in NUMPY_VIEW:
        # Integers, 8-bit floats and the like: kept as bytes; the model refuses them by name if it needs them.
        return StoredTensor(np.frombuffer(mapped, np.uint8, end - begin, begin), dtype)
    numpy_type = NUMPY_VIEW[dtype]
    count = math.prod(shape)
    if end - begin != count * numpy_type.itemsize:
        raise ValueError(f"{end - begin:,} bytes given to a tensor of shape {shape} and dtype {dtype}")
    return StoredTensor(np.frombuffer(mapped, numpy_type, count, begin).reshape(shape), dtype)
