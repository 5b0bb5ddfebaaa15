"""The one progress bar: on long work only; it says how much is done, how fast, and how long the rest takes."""

from __future__ import annotations

import os
import threading
from typing import Any, TypeAlias

from tqdm.auto import tqdm

ProgressBar: TypeAlias = "tqdm[Any]"

# A progress bar only appears on work that is still going after this many seconds.
_DELAY = 5.0

if hasattr(os, "register_at_fork"):  # another thread may have held tqdm's lock, which every bar takes, shown or not
    os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))


def progress_bar(total: int | None, description: str, units: str, show: bool, done: int = 0) -> ProgressBar:
    """Return a progress bar that only appears if the work is still going after 5 seconds.

    Args:
        total: How many there are to do; None where only doing them tells. Then no rest is shown.
        description: What is being done.
        units: What is counted, in the plural.
        show: Whether to show it at all.
        done: How many had been done before.
    """
    counted = "{desc}: {n:,}" if total is None else "{desc}: {percentage:3.0f} % |{bar}| {n:,} of {total:,}"
    left = "" if total is None else ", {remaining} left"
    return tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=f" {units}",
        bar_format=f"{counted} {units}, {{elapsed}}, {{rate_noinv_fmt}}{left}{{postfix}}",
        delay=_DELAY,
        disable=not show,
    )
