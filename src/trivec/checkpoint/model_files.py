"""Opens the files of a model folder with suspicion: they may come from anywhere.

A named pipe would be waited for without end, a device read without end, a Git LFS pointer taken for what it stands for,
and a link whose target was deleted for a file that was never there. Knows nothing about what the files hold.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from trivec.errors import CheckpointError

# The largest config or index of a real model has 100 KB; JSON can take fifty times its size once it is parsed.
JSON_LIMIT = 2_000_000  # bytes
_LFS_MARK = b"version https://git-lfs"


def is_there(path: Path) -> bool:
    """Whether a folder holds a file.

    Raises:
        CheckpointError: It holds something under that name that is no regular file, or a link to nothing.
    """
    try:
        if not os.path.lexists(path):
            return False
        _check_regular(path, path.stat().st_mode)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is a link to {os.readlink(path)}, which is not there: download the file again"  # noqa: PTH115
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    return True


def read_start(path: Path, size: int) -> bytes:
    """Read the first bytes of a model's file.

    Raises:
        CheckpointError: It cannot be read, is no regular file, or a Git LFS pointer.
    """
    return _read(path, size)


def read_whole(path: Path, limit: int) -> bytes:
    """Read a model's file that should be small.

    Raises:
        CheckpointError: As `read_start`, or the file is larger than `limit` bytes.
    """
    content = _read(path, limit + 1)
    if len(content) > limit:
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, more than the {limit:,} that such a file of a model can have: "
            "download it again"
        )
    return content


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a model's JSON file.

    Raises:
        CheckpointError: As `read_whole`, or it is no JSON object.
    """
    try:
        values = json.loads(read_whole(path, JSON_LIMIT).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}): download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, expected an object")
    return values


def _read(path: Path, size: int) -> bytes:
    try:
        _check_regular(path, path.stat().st_mode)
        with path.open("rb") as file:
            start = file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if start.startswith(_LFS_MARK):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file it stands for: run `git lfs pull` in its folder"
        )
    return start


def _check_regular(path: Path, mode: int) -> None:
    kinds = {
        stat.S_IFIFO: "named pipe",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFSOCK: "socket",
        stat.S_IFDIR: "folder",
    }
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is a {kinds.get(stat.S_IFMT(mode), 'special file')}, expected a regular file")
