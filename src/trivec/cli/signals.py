"""What ends a command from outside: Ctrl-C, SIGTERM and a terminal that goes away, each of which lets it tidy up.

Python raises KeyboardInterrupt between any two steps, also in the middle of an import. There an extension module makes
another error of it, or aborts the process; and a Condition that is interrupted as it is taken stays taken for ever. So
while something is being imported, or a Condition taken or given back, the signal waits until that is done.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

# Functions of `threading` that wait, which Ctrl-C is to end; all others are done in a moment.
_WAITING = ("wait", "wait_for", "acquire", "join", "_wait_for_tstate_lock")
# Seconds after which to look again whether the signal still has to wait.
_LOOK_AGAIN = 0.05

_waiting = 0
_terminated = False


class Terminated(KeyboardInterrupt):
    """The process was told to end, by SIGTERM or as its terminal went away; it tidies up as after Ctrl-C."""


def settle() -> None:
    """Take over the signals; only for a process that is this command, and in its main thread."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        # What is ignored stays so: nohup, and commands that a shell puts in the background.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def end() -> None:
    """Let a signal end the process at once: the work is done."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)  # of a signal that waited; none is to wake a process that is being left
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def was_terminated() -> bool:
    """Whether the process was told to end: typer makes 130 of any interrupt that comes before a command has begun."""
    return _terminated


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _waiting, _terminated  # noqa: PLW0603 - signals are the process's own
    number = _waiting or number
    if (_imports(frame) or _changes_a_condition(frame)) and hasattr(signal, "setitimer"):
        if not _waiting:
            _waiting = number
            # A second Ctrl-C does not wait.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN)
        return
    if _waiting:
        _waiting = 0
        signal.signal(signal.SIGINT, _interrupt)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    # Whoever sends it again is in earnest.
    signal.signal(number, signal.SIG_DFL)
    _terminated = True
    raise Terminated


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _changes_a_condition(frame: FrameType | None) -> bool:
    if frame is None or frame.f_code.co_filename != threading.__file__:
        return False
    return frame.f_code.co_name not in _WAITING
