"""Where in the user's code a warning belongs, however deep in trivec it is raised. Knows nothing of its cause."""

from __future__ import annotations

import sys

# What trivec's own frames may have between them.
_OURS = ("trivec", "functools", "contextlib", "asyncio")


def level_of_the_caller() -> int:
    """Return the `stacklevel` at which a warning raised by the calling function points at the user's own code."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    return level
