"""A folder of numpy arrays keyed by what they were computed from, so that work done once is never done again.

An entry is one `.npz` file. It is written under another name and moved into place, so that a reader never sees half of
one, and the checksums of the zip format tell a damaged one, which is then computed anew. Knows nothing about models.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.support import cache_folder
from trivec.support.part_files import replacing

Arrays = dict[str, npt.NDArray[Any]]
_logger = logging.getLogger(__name__)


def default_cache_folder() -> Path:
    """Where evaluations keep their encodings."""
    return cache_folder.default_cache_folder() / "evaluation"


def content_key(parts: Iterable[str | bytes]) -> str:
    """Hash a sequence of texts or bytes; ("ab", "c") and ("a", "bc") have different keys.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class ArrayCache:
    """Named numpy arrays on disk by content key.

    Args:
        folder: Created when something is first stored. Entries may be deleted at any time.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def load_or_build(self, key: str, build: Callable[[], Arrays]) -> Arrays:
        """Return the arrays stored under `key`; where there are none, or they are damaged, `build` and store them.

        Args:
            key: From `content_key`, of everything the arrays depend on.
            build: Computes the arrays; none of them may hold Python objects.
        """
        path = self.folder / key[:2] / f"{key}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            _logger.warning("%s is damaged (%s): computing it again", path, error)
        arrays = build()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes a key for its own parameter
        return arrays
