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

from trivec.checkpoint.model_files import JSON_LIMIT
from trivec.checkpoint.tensors import NUMPY_VIEW, StoredTensor
from trivec.errors import CheckpointError

# The header comes first but is known last: this much is kept free for it, enough for 2,000 tensors with long names.
_HEADER_ROOM = 1 << 18
_ALIGNMENT = 64
# The format allows no gaps between tensors, so what aligns the next one is a tensor itself.
_PADDING = "__padding__"
_MOST_DIMENSIONS = 8
# Bytes an element; types of fewer than 8 bits, which no model of ours has, are left out.
_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Map a safetensors file.

    Returns:
        Every tensor in the file by name, as views of one private memory map.

    Raises:
        CheckpointError: The file is truncated or not a safetensors file, or its tensors overlap or leave gaps.
    """
    with path.open("rb") as file:
        header, start, size = _read_header(path, file)
        # OpenVINO shares only arrays that could be written; a private map can, without touching the file.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        return {
            name: _view(mapped, start + begin, start + end, dtype, shape)
            for name, dtype, shape, begin, end in _laid_out(header, path, size - start)
            if not name.startswith(_PADDING)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged_header(path, error) from error


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
    if start > size:
        raise CheckpointError(f"{path} is no complete safetensors file ({size:,} bytes): download it again")
    if header_size > JSON_LIMIT:
        raise CheckpointError(
            f"{path} has a safetensors header of {header_size:,} bytes, more than the {JSON_LIMIT:,} that one of a "
            "model can have: download it again"
        )
    try:
        header = json.loads(file.read(header_size), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise _damaged_header(path, error) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a damaged safetensors header (no JSON object): download it again")
    return header, start, size


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is there twice")
    return values


def _laid_out(header: dict[str, Any], path: Path, size: int) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """Name, dtype, shape, begin and end of every tensor in file order; together they are all of the `size` bytes.

    The format demands it, and its own reader refuses the rest: a damaged offset would show no other way.
    """
    tensors = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (begin, end) = str(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
        if len(shape) > _MOST_DIMENSIONS:
            raise ValueError(f"tensor {name:.100} has {len(shape)} dimensions")
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise ValueError(f"tensor {name:.100} has sizes or offsets that are no whole numbers of at least 0")
        if dtype in _ITEM_SIZES and end - begin != math.prod(shape) * _ITEM_SIZES[dtype]:
            raise ValueError(f"{end - begin:,} bytes given to tensor {name:.100} of shape {shape} and dtype {dtype}")
        tensors.append((name, dtype, shape, begin, end))
    tensors.sort(key=lambda tensor: tensor[3:])
    reached = 0
    for name, _dtype, _shape, begin, end in tensors:
        if end > size:
            raise CheckpointError(
                f"{path} is truncated: tensor {name:.100} ends at byte {end:,} of the data, the file at {size:,}; "
                "download it again"
            )
        if begin != reached or end < begin:
            raise ValueError(
                f"tensor {name:.100} begins at byte {begin:,} of the data, the one before ends at {reached:,}"
            )
        reached = end
    if reached != size:
        raise ValueError(f"the tensors end at byte {reached:,} of the data, the file at {size:,}")
    return tensors


def _damaged_header(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} has a damaged safetensors header ({error!s:.300}): download it again")


def _view(mapped: mmap.mmap, begin: int, end: int, dtype: str, shape: tuple[int, ...]) -> StoredTensor:
    if dtype not in NUMPY_VIEW:
        # Integers, 8-bit floats and the like: kept as bytes; the model refuses them by name if it needs them.
        return StoredTensor(np.frombuffer(mapped, np.uint8, end - begin, begin), dtype)
    numpy_type = NUMPY_VIEW[dtype]
    return StoredTensor(np.frombuffer(mapped, numpy_type, math.prod(shape), begin).reshape(shape), dtype)
