"""Reaching Milvus: a Milvus Lite file or a server, how long to wait for it, and its errors as one line.

pymilvus logs a traceback for every refused request and raises an exception whose text spans lines; Milvus Lite logs why
a file does not open and raises something that does not say. Both are turned into `MilvusError` here. A server that is
lost is asked again until its time is up, as it may come back; the same connection then goes on. This module knows
nothing about collections.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from trivec.errors import MilvusError
from trivec.milvus import lite_server
from trivec.support.extras import require
from trivec.support.forks import ForkSafeLock

_LITE_SUFFIX = ".db"
_SERVER_SCHEMES = ("http", "https", "tcp", "unix")

T = TypeVar("T")

# Seconds that a server is given to answer, also where it is lost and comes back meanwhile.
DEFAULT_TIMEOUT = 30.0

# Seconds that a connection may take to come about, and those before the second attempt of a request that a lost server
# did not answer; they double with each further one up to the last figure.
_CONNECTING = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
_CONNECT_FAILED = 2  # pymilvus.client.types.Status

# Packages that log what is raised as well.
_NOISY = ("pymilvus", "milvus_lite.server_manager")

# pymilvus pings its server every ten seconds. Milvus Lite's, in this process, answers the third ping without a request
# between by hanging up ("too_many_pings" on stderr), as happens while a large batch is encoded.
_LITE_CHANNEL = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": 0}

# gRPC waits ever longer, up to two minutes, before it looks again for a server that was lost; other channels of the
# process wait with it. A server that is back should be found within a request's time.
_SERVER_CHANNEL = {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2000,
}

# How many open `Connection`s of this process use a Milvus Lite file that trivec opened, by absolute path.
_lite_users: dict[str, int] = {}
_lite_lock = ForkSafeLock()


class Connection:
    """An open connection to Milvus Lite or to a server.

    Args:
        uri: The path of a Milvus Lite file, which ends in .db, or "http(s)://host:port" of a server.
        token: An API key or "user:password", for servers that ask for one.
        db_name: The database; empty means the default one.
        timeout: Seconds that a server is given to answer a request, attempts after a loss included; None: for ever.
            Milvus Lite, which runs in this process, is given as long as it takes.

    Attributes:
        client: The `pymilvus.MilvusClient`.
        place: The URI without credentials, for messages.

    Raises:
        MilvusError: The URI is malformed, the file is open in another process or is damaged, no server answers, or the
            server rejects the token.
        MissingExtraError: The URI is a Milvus Lite file and milvus-lite is not installed.
    """

    def __init__(
        self, uri: str, *, token: str = "", db_name: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> None:
        self.place = without_credentials(uri)
        self._lite_path = str(Path(uri).absolute()) if is_lite(uri) else None
        self._db_name = db_name
        self._timeout = None if self._lite_path is not None else timeout
        self._closed = False
        self._process = os.getpid()
        if self._lite_path is not None:
            _check_lite_path(Path(uri))
            with _lite_lock.own():
                self.client = self._connect(self._lite_path, token, db_name)
        elif uri.partition(":")[0].lower() not in _SERVER_SCHEMES:
            raise MilvusError(f"{self.place!r} is no Milvus URI: give a file that ends in .db or http://host:19530")
        else:
            # pymilvus takes a password apart that holds a slash, and says parts of it in its error.
            self.client = self._connect(self.place if "://" in uri else uri, token or credentials(uri), db_name)

    def _connect(self, uri: str, token: str, db_name: str) -> Any:
        # "dedicated": a connection of its own, so that closing it closes it.
        options: dict[str, Any] = {"dedicated": True}
        options["grpc_options"] = _SERVER_CHANNEL if self._lite_path is None else _LITE_CHANNEL
        if self._timeout is not None:
            options["timeout"] = min(self._timeout, _CONNECTING)  # also of each attempt to connect again
        was_open = self._lite_path is not None and lite_server.is_open(self._lite_path)
        with _quiet_logs() as logged:
            if self._lite_path is not None:
                try:
                    lite_server.start(self._lite_path)
                except Exception as error:  # Milvus Lite's errors have no common base
                    raise MilvusError(self._why_not_lite(error)) from error
            try:
                client = MilvusClient(uri, token=token, db_name=db_name, **options)
            except (MilvusException, grpc.RpcError) as error:
                if self._lite_path is not None:
                    raise MilvusError(self._why_not_lite(logged[-1] if logged else error)) from error
                raise MilvusError(self._why_not(error)) from error
            except ValueError as error:  # of Python's own reading of a URI
                raise MilvusError(
                    f"{self.place!r} is no Milvus URI ({_one_line(error)}): give http://host:19530"
                ) from error
        if self._lite_path is not None and (self._lite_path in _lite_users or not was_open):
            _lite_users[self._lite_path] = _lite_users.get(self._lite_path, 0) + 1
        return client

    def _why_not_lite(self, cause: BaseException) -> str:
        if type(cause).__name__ == "DataDirLockedError":
            return f"{self.place} is open in another process: close it there, or use a Milvus server to share data"
        return f"cannot open {self.place} as a Milvus Lite file: {_one_line(cause)}"

    def _why_not(self, error: MilvusException | grpc.RpcError) -> str:
        if _status(error) in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return f"the Milvus server at {self.place} rejected the token: check token (an API key or user:password)"
        if _is_lost(error):
            return f"no Milvus server answers at {self.place}: start it, check the URI, or use a file such as milvus.db"
        return f"cannot connect to Milvus at {self.place}: {_one_line(error)}"

    def lite_collection(self, name: str) -> Any:
        """Return Milvus Lite's own object for a collection, where trivec opened the file; None of a server."""
        self._check_process(f"{self.place}: cannot read")
        if self._lite_path is None or self._db_name:
            return None
        return lite_server.collection(self._lite_path, name)

    def call(self, doing: str, request: Callable[[Any], T], *, patience: float | None = None) -> T:
        """Return what a request gives that may be made twice, asking again while the server is lost.

        Args:
            doing: What is being done, for messages.
            request: Called with the client, whose methods then take at most the time that is left.
            patience: Seconds to allow for this request where that is more than the connection's `timeout`.

        Raises:
            MilvusError: Milvus refused the request, or did not answer in time.
        """
        if self._timeout is None:
            with self.request(doing) as client:
                return request(client)
        self._check_process(doing)
        began = time.monotonic()
        given = max(self._timeout, patience or 0)
        pause = _FIRST_PAUSE
        while True:
            with _quiet_logs():
                try:
                    return request(_Limited(self.client, began + given))
                except (MilvusException, grpc.RpcError) as error:
                    if self._closed or not _is_lost(error):
                        raise MilvusError(f"{doing}: {_one_line(error)}") from error
                    # However long the request itself may take, a server that is not there gets no more than `timeout`.
                    spent = time.monotonic() - began
                    if spent + pause >= (given if _status(error) == "DEADLINE_EXCEEDED" else self._timeout):
                        raise MilvusError(
                            f"{doing}: the Milvus server has not answered for {spent:.0f} s: check that it runs and "
                            "can be reached, or give it longer (timeout)"
                        ) from error
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    @contextmanager
    def request(self, doing: str) -> Iterator[Any]:
        """Give the client for one request; a failure is raised as `MilvusError` that says what was being done."""
        self._check_process(doing)
        with _quiet_logs():
            try:
                yield self.client
            except (MilvusException, grpc.RpcError) as error:
                raise MilvusError(f"{doing}: {_one_line(error)}") from error

    def _check_process(self, doing: str) -> None:
        if os.getpid() != self._process:
            raise MilvusError(
                f"{doing}: it was opened before this process was forked, and gRPC does not survive a fork: open it in "
                "each process"
            )

    def close(self) -> None:
        """Close the connection; the last one to close a Milvus Lite file lets other processes open it.

        A file that the process had opened by other means before trivec did stays open.
        """
        self._closed = True
        if os.getpid() != self._process:
            return  # closing would wait for threads that a fork left behind; it is the parent's
        self.client.close()
        if self._lite_path is None:
            return
        with _lite_lock.own():
            users = _lite_users.pop(self._lite_path, 0) - 1
            if users > 0:
                _lite_users[self._lite_path] = users
            elif users == 0:
                lite_server.stop(self._lite_path)


def is_lite(uri: str) -> bool:
    """Return whether the URI is the path of a Milvus Lite file."""
    return uri.endswith(_LITE_SUFFIX) and "://" not in uri


def without_credentials(uri: str) -> str:
    """Return the URI without a user and password.

    >>> without_credentials("https://root:Milvus@host:19530/books")
    'https://host:19530/books'
    >>> without_credentials("root:Milvus@host:19530")
    'host:19530'
    """
    if is_lite(uri):
        return uri
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    return scheme + separator + rest.rpartition("@")[2]  # the last one: a password may hold an @ or a / itself


def credentials(uri: str) -> str:
    """Return the "user:password" of a server's URI, as it stands there; empty where it has none.

    >>> credentials("https://root:a/b@host:19530")
    'root:a/b'
    """
    return uri.partition("://")[2].rpartition("@")[0]


def _check_lite_path(path: Path) -> None:
    require("milvus_lite")
    if not path.absolute().parent.is_dir():
        raise MilvusError(f"cannot open {path}: the folder {path.absolute().parent} does not exist")
    # Where the application sets up no logging, Python would print Milvus Lite's tracebacks on stderr.
    logging.getLogger("milvus_lite").addHandler(logging.NullHandler())
    if path.is_file():
        raise MilvusError(
            f"{path} is a single file, not a Milvus Lite 3 database (a folder): it may come from Milvus Lite 2; "
            "choose another name and index the documents again"
        )


def _one_line(error: BaseException) -> str:
    message = str(error)
    if isinstance(error, MilvusException):
        message = str(error.message)
    elif isinstance(error, grpc.Call):  # what a refused request raises; its str() spans lines
        message = str(error.details())
    return " ".join(message.split())


def _status(error: BaseException) -> str:
    """Return the name of the gRPC status behind an error; empty where there is none."""
    for cause in (error, error.__cause__):
        code = getattr(cause, "code", None)
        code = code() if callable(code) else code
        if isinstance(code, grpc.StatusCode):
            return str(code.name)
    return ""


def _is_lost(error: BaseException) -> bool:
    """Return whether the server could not be reached, or did not answer, so that asking again may help."""
    # The last: another thread has just opened a new channel in place of the one this request was to take.
    return _status(error) in _LOST or getattr(error, "code", None) == _CONNECT_FAILED or "closed channel" in str(error)


class _Limited:
    """A client whose methods take the time that is left until a deadline, at most."""

    def __init__(self, client: Any, deadline: float) -> None:
        self._client = client
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not _takes_timeout(name):
            return method
        return partial(method, timeout=max(0.001, self._deadline - time.monotonic()))


@cache
def _takes_timeout(method: str) -> bool:
    return "timeout" in signature(getattr(MilvusClient, method)).parameters


class _Quiet(logging.Filter):
    """Drops one thread's records about a failing request and keeps their exceptions: they are raised instead."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        if record.thread != self._thread:
            return True
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])
        return False


@contextmanager
def _quiet_logs() -> Iterator[list[BaseException]]:
    quiet = _Quiet()
    # A filter heeds what is logged to its very logger, so each one of the two packages that exists needs it.
    names = [name for name in list(logging.root.manager.loggerDict) if name.startswith(_NOISY)]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(quiet)
    try:
        yield quiet.errors
    finally:
        for logger in loggers:
            logger.removeFilter(quiet)
