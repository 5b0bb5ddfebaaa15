"""Reads a `.safetensors` file: an 8-byte length, a JSON header, then raw little-endian tensors.

The safetensors package copies every tensor into memory and has no bfloat16 for numpy; the word-embedding table alone is
1 GB, so the file is mapped here instead and each tensor is a view of the map. Knows nothing about the model.
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path

import numpy as np

from trivec.checkpoint.tensors import NUMPY_VIEW, StoredTensor
from trivec.errors import CheckpointError


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Map a safetensors file.

    Returns:
        Every tensor in the file by name, as views of one private memory map.

    Raises:
        CheckpointError: The file is truncated, or not a safetensors file.
    """
    size = path.stat().st_size
    if size < 8:
        raise CheckpointError(f"{path} has {size} bytes and is no safetensors file: download it again")
    with path.open("rb") as file:
        # OpenVINO shares only arrays that could be written; a private map can, without touching the file.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    header_size = int.from_bytes(mapped[:8], "little")
    start = 8 + header_size
    if header_size > 100_000_000 or start > size:
        raise CheckpointError(f"{path} is no complete safetensors file ({size:,} bytes): download it again")
    try:
        header = json.loads(mapped[8:start])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            if not start <= begin <= end <= size:
                raise CheckpointError(
                    f"{path} is truncated: tensor {name} ends at byte {end:,}, the file at {size:,}; download it again"
                )
            tensors[name] = _view(mapped, begin, end, str(entry["dtype"]), tuple(map(int, entry["shape"])))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged safetensors header ({error}): download it again") from error
    return tensors


def _view(mapped: mmap.mmap, begin: int, end: int, dtype: str, shape: tuple[int, ...]) -> StoredTensor:
    if dtype not in NUMPY_VIEW:
        # Integers, 8-bit floats and the like: kept as bytes; the model refuses them by name if it needs them.
        return StoredTensor(np.frombuffer(mapped, np.uint8, end - begin, begin), dtype)
    numpy_type = NUMPY_VIEW[dtype]
    count = math.prod(shape)
    if end - begin != count * numpy_type.itemsize:
        raise ValueError(f"{end - begin:,} bytes given to a tensor of shape {shape} and dtype {dtype}")
    return StoredTensor(np.frombuffer(mapped, numpy_type, count, begin).reshape(shape), dtype)
