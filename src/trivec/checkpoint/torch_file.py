"""Reads a file written by `torch.save` without torch and without executing anything in it.

Such a file is a zip archive: `data.pkl` describes the tensors, `data/0`, `data/1`, ... hold their bytes, uncompressed.
Nothing here is ever inflated, so a file takes the memory that its own size says; storages are memory-mapped, and the
checksums that the archive holds of them are compared. Knows nothing about the model.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from trivec.checkpoint.digests import default_digest_folder, remembered
from trivec.checkpoint.tensor_pickle import DamagedPickleError, ForbiddenNameError, read_tensor_pickle
from trivec.checkpoint.tensors import NUMPY_VIEW, StoredTensor
from trivec.errors import CheckpointError

# Integer buffers (old checkpoints carry `position_ids`) are admitted so that the file opens; the model reads none.
_NUMPY_TYPES: dict[str, np.dtype[Any]] = NUMPY_VIEW | {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# Of one read while the archive's directory is looked at, and of its pickle. Those of BGE-M3 have 30 and 50 KB; parsed,
# they can take a hundred times as much.
_DIRECTORY_LIMIT, _PICKLE_LIMIT = 2_000_000, 500_000  # bytes
# Smaller archives are compared with their checksums at every load, larger ones while they are new or have changed.
_QUICKLY_READ = 64_000_000  # bytes


def read_torch_file(path: Path) -> dict[str, StoredTensor]:
    """Map a state dict written by `torch.save` (the zip format, torch >= 1.6).

    Returns:
        Every tensor in the file by name, as views of one private memory map.

    Raises:
        CheckpointError: The file is truncated or damaged, not a torch file, in the format of torch < 1.6, or its pickle
            asks for anything but tensors (nothing of it is executed).
    """
    with path.open("rb") as file:
        if file.read(2) == b"\x80\x02":
            raise CheckpointError(
                f"{path} is in the format of torch < 1.6, a bare pickle, which is not read for safety: "
                "save it again with a current torch, or as safetensors"
            )
    try:
        with _ShortReads(path) as short_reads, zipfile.ZipFile(short_reads) as archive, path.open("rb") as file:
            # OpenVINO shares only arrays that could be written; a private map can, without touching the file.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            return _read_archive(archive, mapped, path)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, ArithmeticError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} is truncated or no torch file ({size:,} bytes; {error!s:.300}): download it again"
        ) from error


class _ShortReads(io.FileIO):
    """A file that is not read in large pieces: `zipfile` reads an archive's directory whole, however large it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > _DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"its directory has {wanted:,} bytes")
        return super().read(wanted)


def _read_archive(archive: zipfile.ZipFile, mapped: mmap.mmap, path: Path) -> dict[str, StoredTensor]:
    entries = _members(archive, path)
    pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is a zip archive without a data.pkl, so not one that torch.save wrote")
    prefix = pickles[0][: -len("data.pkl")]
    if prefix + "byteorder" in entries and _content(archive, entries[prefix + "byteorder"]) != b"little":
        raise CheckpointError(f"{path} was saved on a big-endian machine; save it again on a little-endian one")

    def storage(key: str, dtype: str, count: int) -> np.ndarray[Any, Any]:
        info = entries.get(f"{prefix}data/{key}")
        numpy_type = _NUMPY_TYPES[dtype]
        if info is None:
            raise DamagedPickleError(f"storage {key!r:.60} is not in the archive")
        if info.file_size != count * numpy_type.itemsize:
            raise DamagedPickleError(
                f"storage {key!r:.60} has {info.file_size:,} bytes for {count:,} elements of {dtype}"
            )
        # The local header repeats the name, and an extra field that torch pads for alignment: only it gives the start.
        name_size, extra_size = struct.unpack_from("<HH", mapped, info.header_offset + 26)
        return np.frombuffer(mapped, numpy_type, count, info.header_offset + 30 + name_size + extra_size)

    try:
        state = read_tensor_pickle(_content(archive, entries[pickles[0]]), storage)
    except ForbiddenNameError as error:
        raise CheckpointError(
            f"{path} is not safe: its pickle asks for {error}, which no tensor needs; nothing was executed. "
            "Get the file from a source you trust, or as safetensors"
        ) from error
    except DamagedPickleError as error:
        raise CheckpointError(f"{path} is damaged: its pickle does not describe tensors ({error!s:.300})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dict of tensors")
    tensors = {name: value for name, value in state.items() if isinstance(value, StoredTensor)}
    if not all(isinstance(name, str) for name in tensors):
        raise CheckpointError(f"{path} is damaged: it has tensors under names that are no text; download it again")
    _compare_checksums(archive, path)
    return tensors


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    members = {info.filename: info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise zipfile.BadZipFile("it holds two members of one name")
    for name, info in members.items():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise CheckpointError(
                f"{path} is no file of torch.save: {name!r:.80} is compressed in it (to {info.compress_size:,} bytes "
                f"of {info.file_size:,}), which torch never does; nothing was unpacked"
            )
    return members


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A small member, whole; `zipfile` compares its checksum."""
    if info.file_size > _PICKLE_LIMIT:
        raise zipfile.BadZipFile(f"{info.filename!r:.80} has {info.file_size:,} bytes, which no model needs")
    return archive.read(info)


def _compare_checksums(archive: zipfile.ZipFile, path: Path) -> None:
    def compare(_file: Path) -> str:
        for info in archive.infolist():
            with archive.open(info) as member:
                while member.read(1 << 20):
                    pass
        return "as they should be"

    if path.stat().st_size <= _QUICKLY_READ:
        compare(path)
    else:
        remembered("checksums", path, default_digest_folder(), compare)
