"""What a forked child must not take over from its parent.

A fork copies memory, but of the threads only the one that forked. Whatever has threads of its own (OpenVINO, torch,
tokenizers, a connection), and a lock that another thread held, would have the child wait for ever: when it is used, and
also when it is freed, at the latest as the child ends. So a child makes such things anew, or is told to, and never
touches its parent's. Knows nothing of what is kept.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

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

    def __init__(self, value: T, make: Callable[[], T]) -> None:
        """Hold the value of this process.

        Args:
            value: It must allow weak references.
            make: Makes a child's.
        """
        self._value = value
        self._process = os.getpid()
        self._make = make
        self._lock = ForkSafeLock()
        keep_in_children(value)

    def get(self) -> T:
        """Return this process's value."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._value = self._make()
                    keep_in_children(self._value)
                    self._process = os.getpid()  # last: another thread that sees it goes on to the value
        return self._value

    def own(self) -> T | None:
        """Return this process's value, or None where it would have to be made."""
        return self._value if self._process == os.getpid() else None


def keep_in_children(value: Any) -> None:
    """Have forked children never free a value, which must allow weak references."""
    _kept.add(value)


def never_free(value: Any) -> None:
    """Keep a value beyond the end of the interpreter, which frees whatever a module refers to."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


# Threads in `no_fork_meanwhile`, and how often each. Changed under `_gate` only.
_computing: Counter[int] = Counter()
_gate = threading.Condition()
_forks_waiting = 0
# A fork happens after this many seconds whatever is being computed: waiting for ever is what must not be.
_PATIENCE = 60.0


@contextmanager
def no_fork_meanwhile() -> Iterator[None]:
    """Hold back forks of other threads while the body runs, which should not take long: a batch, not a data set."""
    thread = threading.get_ident()
    with _gate:
        if not _computing[thread]:
            _gate.wait_for(lambda: not _forks_waiting, _PATIENCE)
        _computing[thread] += 1
    try:
        yield
    finally:
        with _gate:
            _computing[thread] -= 1
            if not _computing[thread]:
                del _computing[thread]
                _gate.notify_all()


# Releases of tokenizers before 0.22 print a warning in a child, also where it does no harm, unless this is set.
_PARALLELISM = "TOKENIZERS_PARALLELISM"
_fork = threading.local()


def _tokenizers_warns() -> bool:
    version = getattr(sys.modules.get("tokenizers"), "__version__", "1")
    major, minor = (version.split(".") + ["0"])[:2]
    return major == "0" and minor.isdigit() and int(minor) < 22


def _before() -> None:
    global _forks_waiting
    thread = threading.get_ident()
    with _gate:
        _forks_waiting += 1
        # The forking thread may be computing itself: a signal handler forks wherever it is called.
        _gate.wait_for(lambda: not set(_computing) - {thread}, _PATIENCE)
    _fork.sets = _PARALLELISM not in os.environ and _tokenizers_warns()
    if _fork.sets:
        os.environ[_PARALLELISM] = "false"


def _in_parent() -> None:
    global _forks_waiting
    if _fork.sets:
        os.environ.pop(_PARALLELISM, None)
    with _gate:
        _forks_waiting -= 1
        _gate.notify_all()


def _in_child() -> None:
    global _gate, _forks_waiting
    own = threading.get_ident()
    for thread in set(_computing) - {own}:
        del _computing[thread]
    _gate, _forks_waiting = threading.Condition(), 0
    for value in list(_kept):
        never_free(value)
    if "tokenizers" in sys.modules:
        os.environ[_PARALLELISM] = "false"  # its threads stayed behind; a user's "true" would have it wait for them


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
