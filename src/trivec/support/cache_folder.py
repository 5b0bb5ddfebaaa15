"""Where trivec keeps what it can make again. Knows nothing about what is kept there."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_folder() -> Path:
    """Return the folder that `TRIVEC_CACHE` names, else `trivec` in the user's cache folder (XDG rules).

    Raises:
        FileNotFoundError: It lies in a home folder (`~`), and the user has none.
    """
    own, base = os.environ.get("TRIVEC_CACHE", ""), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if own:
            return Path(own).expanduser()
        return (Path(base) if base else Path.home() / ".cache") / "trivec"
    except RuntimeError as error:  # neither HOME nor an account, as in some containers
        named = f"TRIVEC_CACHE={own}" if own else "HOME"
        raise FileNotFoundError(f"{named} names no home folder: set TRIVEC_CACHE to a whole path") from error
