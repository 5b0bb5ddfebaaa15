"""What a forked child must not take over from its parent.

A fork copies memory, but of the threads only the one that forked. Whatever has threads of its own (OpenVINO, torch,
tokenizers, a connection), and a lock that another thread held, would have the child wait for ever: when it is used, and
also when it is freed, at the latest as the child ends. So a child makes such things anew, or is told to, and never
touches its parent's. Libraries have locks of their own, which cannot be made anew; so a fork waits until other threads
have computed the batch they are at. Knows nothing of what is kept or computed.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from trivec.errors import DeviceError

T = TypeVar("T")

# What must live on in a child, untouched: of every `PerProcess`, and what was handed to `keep_in_children`.
_kept: weakref.WeakSet[Any] = weakref.WeakSet()


class ForkSafeLock:
    """A lock that a forked child finds free, whoever held it in the parent.

    It is taken by `with lock.own():` and is no context manager itself: an `__enter__` in Python can be interrupted by
    Ctrl-C once it holds the lock, which nobody would ever release. Python's own locks are taken in one step.
    """

    def __init__(self, kind: Callable[[], Any] = threading.Lock) -> None:
        self._kind = kind
        self._locks: dict[int, Any] = {os.getpid(): kind()}

    def own(self) -> Any:
        """Return this process's lock."""
        process = os.getpid()
        # `setdefault` is one step: of several threads that come first, all get the same lock.
        return self._locks.get(process) or self._locks.setdefault(process, self._kind())


class PerProcess(Generic[T]):
    """A value of which a forked child has its own, made when it is first asked for there."""

    def __init__(self, value: T, make: Callable[[], T], survives: bool = False) -> None:
        """Hold the value of this process.

        Args:
            value: It must allow weak references.
            make: Makes a child's.
            survives: Whether children may use this very value, as it sees to its threads itself.
        """
        self._value = value
        self._process: int | None = None if survives else os.getpid()  # None: whose it is makes no difference
        self._make = make
        self._lock = ForkSafeLock()
        keep_in_children(value)

    def get(self) -> T:
        """Return this process's value."""
        if self._process not in (None, os.getpid()):
            with self._lock.own():
                if self._process != os.getpid():
                    never_free(self._value)  # again, for a process forked behind Python's back
                    self._value = self._make()
                    keep_in_children(self._value)
                    self._process = os.getpid()  # last: another thread that sees it goes on to the value
        return self._value

    def own(self) -> T | None:
        """Return this process's value, or None where it would have to be made."""
        return self._value if self._process in (None, os.getpid()) else None


def keep_in_children(value: Any) -> None:
    """Have forked children never free a value, which must allow weak references."""
    _kept.add(value)


def never_free(value: Any) -> None:
    """Keep a value beyond the end of the interpreter, which frees whatever a module refers to."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


# Libraries that a process used which cannot be used again in its children, and that process.
_used_in: dict[str, int] = {}


def refuse_in_child(library: str) -> None:
    """Note that this process uses a library which does not survive a fork, or refuse it in a child.

    Raises:
        DeviceError: This process was forked from one that used it.
    """
    if _used_in.setdefault(library, os.getpid()) != os.getpid():
        raise DeviceError(
            f"this process was forked from one that had loaded a model with {library}, which cannot be used again in "
            'a forked child: start processes by multiprocessing\'s "spawn" instead, or load no model before the fork '
            "(gunicorn: without --preload)"
        )


# A fork happens after this many seconds whatever is being computed: waiting for ever is what must not be.
_PATIENCE = 60.0
# A library's threads run on for a moment after the last result; so long at most a fork waits for them, and only if
# something was computed as lately as that.
_AFTERMATH = 0.5
# Seconds after which whoever waits looks again.
_LOOK_AGAIN = 0.005


class _Gate:
    """Lets other threads either compute, or one or more of them fork.

    Made of single steps on dicts, without a lock: Ctrl-C can interrupt between any two steps, and a Condition that is
    interrupted as it is taken stays taken. Whoever comes notes that first and then looks who else is there, so that of
    two who come at once at least one sees the other.
    """

    def __init__(self) -> None:
        self.computing: dict[object, int] = {}  # by passage, the thread
        self.forking: dict[object, int] = {}
        self.last_computed = -math.inf

    def enter(self, passage: object) -> None:
        own = threading.get_ident()
        nested = own in list(self.computing.values())
        self.computing[passage] = own
        end = time.monotonic() + _PATIENCE
        while self.forking and not nested and time.monotonic() < end:
            self.computing.pop(passage, None)
            time.sleep(_LOOK_AGAIN)
            self.computing[passage] = own

    def leave(self, passage: object) -> None:
        try:
            self.last_computed = time.monotonic()
        finally:
            self.computing.pop(passage, None)

    def close(self, passage: object) -> None:
        own = threading.get_ident()
        self.forking[passage] = own
        end = time.monotonic() + _PATIENCE
        # The forking thread may be computing itself: a signal handler forks wherever it is called.
        while set(self.computing.values()) - {own} and time.monotonic() < end:
            time.sleep(_LOOK_AGAIN)
        began = time.monotonic()
        if began < self.last_computed + _AFTERMATH:
            while _others_run() and time.monotonic() < began + _AFTERMATH:
                time.sleep(_LOOK_AGAIN)

    def open(self, passage: object) -> None:
        self.forking.pop(passage, None)

    def renew(self) -> None:
        """Be as new, but for what the calling thread, in a child the only one, is in the middle of."""
        own = threading.get_ident()
        self.computing = {passage: thread for passage, thread in self.computing.items() if thread == own}
        self.forking = {}


_gate = _Gate()


@contextmanager
def no_fork_meanwhile() -> Iterator[None]:
    """Hold back forks of other threads while the body runs, which should not take long: a batch, not a data set."""
    passage = object()
    try:
        _gate.enter(passage)
        yield
    finally:
        _gate.leave(passage)


def _others_run() -> bool:
    """Whether another thread of this process is at work, by what Linux says; elsewhere True, as nobody can tell."""
    own = str(threading.get_native_id())
    try:
        for thread in Path("/proc/self/task").iterdir():
            state = (thread / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if thread.name != own and state == "R":
                return True
    except (OSError, IndexError):  # a thread has just ended, or this is no Linux
        return True
    return False


# Releases of tokenizers before 0.22 print a warning in a child, also where it does no harm, unless this is set.
_PARALLELISM = "TOKENIZERS_PARALLELISM"
_fork = threading.local()


def _tokenizers_warns() -> bool:
    version = getattr(sys.modules.get("tokenizers"), "__version__", "1")
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return major == "0" and minor.isdigit() and int(minor) < 22


def _before() -> None:
    _fork.passage = object()
    _gate.close(_fork.passage)
    _fork.sets = _PARALLELISM not in os.environ and _tokenizers_warns()
    if _fork.sets:
        os.environ[_PARALLELISM] = "false"


def _in_parent() -> None:
    if _fork.sets:
        os.environ.pop(_PARALLELISM, None)
    _gate.open(_fork.passage)


def _in_child() -> None:
    _gate.renew()
    for value in list(_kept):
        never_free(value)
    if "tokenizers" in sys.modules:
        os.environ[_PARALLELISM] = "false"  # its threads stayed behind; a user's "true" would have it wait for them


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
