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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from trivec.errors import DeviceError

T = TypeVar("T")

# What must live on in a child, untouched: of every `PerProcess`, and what was handed to `keep_in_children`.
_kept: weakref.WeakSet[Any] = weakref.WeakSet()


class ForkSafeLock:
    """A lock, used with `with`, that a forked child finds free, whoever held it in the parent."""

    def __init__(self, kind: Callable[[], Any] = threading.Lock) -> None:
        self._kind = kind
        self._locks: dict[int, Any] = {os.getpid(): kind()}

    def _own(self) -> Any:
        process = os.getpid()
        # `setdefault` is one step: of several threads that come first, all get the same lock.
        return self._locks.get(process) or self._locks.setdefault(process, self._kind())

    def __enter__(self) -> None:
        self._own().acquire()

    def __exit__(self, *_exception: object) -> None:
        self._own().release()


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
            with self._lock:
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


class _Gate:
    """Lets other threads either compute, or one or more of them fork."""

    def __init__(self) -> None:
        self.computing: Counter[int] = Counter()  # by thread: how often it is in `no_fork_meanwhile`
        self._forking = 0
        self._last_computed = -math.inf
        self._changed = threading.Condition()

    def enter(self) -> None:
        thread = threading.get_ident()
        with self._changed:
            if not self.computing[thread]:
                self._changed.wait_for(lambda: not self._forking, _PATIENCE)
            self.computing[thread] += 1

    def leave(self) -> None:
        thread = threading.get_ident()
        with self._changed:
            self._last_computed = time.monotonic()
            self.computing[thread] -= 1
            if self.computing[thread] <= 0:
                del self.computing[thread]
                self._changed.notify_all()

    def close(self) -> None:
        own = threading.get_ident()
        with self._changed:
            self._forking += 1
            # The forking thread may be computing itself: a signal handler forks wherever it is called.
            self._changed.wait_for(lambda: not set(self.computing) - {own}, _PATIENCE)
        began = time.monotonic()
        if began < self._last_computed + _AFTERMATH:
            while _others_run() and time.monotonic() < began + _AFTERMATH:
                time.sleep(0.005)

    def open(self) -> None:
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()

    def renew(self) -> None:
        """Be as new, but for what the calling thread, in a child the only one, is in the middle of."""
        own = threading.get_ident()
        own_times = self.computing[own]
        _Gate.__init__(self)
        self.computing[own] = own_times


_gate = _Gate()


@contextmanager
def no_fork_meanwhile() -> Iterator[None]:
    """Hold back forks of other threads while the body runs, which should not take long: a batch, not a data set."""
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


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
    _gate.close()
    _fork.sets = _PARALLELISM not in os.environ and _tokenizers_warns()
    if _fork.sets:
        os.environ[_PARALLELISM] = "false"


def _in_parent() -> None:
    if _fork.sets:
        os.environ.pop(_PARALLELISM, None)
    _gate.open()


def _in_child() -> None:
    _gate.renew()
    for value in list(_kept):
        never_free(value)
    if "tokenizers" in sys.modules:
        os.environ[_PARALLELISM] = "false"  # its threads stayed behind; a user's "true" would have it wait for them


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
