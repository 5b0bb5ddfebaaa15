"""Where trivec keeps what it can make again. Knows nothing about what is kept there."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_folder() -> Path:
    """Return the folder that `TRIVEC_CACHE` names, else `trivec` in the user's cache folder (XDG rules)."""
    if own := os.environ.get("TRIVEC_CACHE", ""):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "trivec"
