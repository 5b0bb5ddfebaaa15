"""Reaching Milvus: a Milvus Lite file or a server, and its errors as one line.

pymilvus logs a traceback for every refused request and raises an exception whose text spans lines; Milvus Lite logs why
a file does not open and raises something that does not say. Both are turned into `MilvusError` here. This module knows
nothing about collections.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from trivec.errors import MissingExtraError
from trivec.forks import ForkSafeLock
from trivec.milvus.errors import MilvusError

_LITE_SUFFIX = ".db"
_SERVER_SCHEMES = ("http", "https", "tcp", "unix")

# pymilvus pings its server every ten seconds. Milvus Lite's, in this process, answers the third ping without a request
# between by hanging up ("too_many_pings" on stderr), as happens while a large batch is encoded.
_LITE_CHANNEL = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": 0}

# How many open `Connection`s of this process use a Milvus Lite file that trivec opened, by absolute path.
_lite_users: dict[str, int] = {}
_lite_lock = ForkSafeLock()


class Connection:
    """An open connection to Milvus Lite or to a server.

    Args:
        uri: The path of a Milvus Lite file, which ends in .db, or "http(s)://host:port" of a server.
        token: An API key or "user:password", for servers that ask for one.
        db_name: The database; empty means the default one.

    Attributes:
        client: The `pymilvus.MilvusClient`.
        place: The URI without credentials, for messages.

    Raises:
        MilvusError: the URI is malformed, the file is open in another process or is damaged, no server answers, or the
            server rejects the token.
        MissingExtraError: the URI is a Milvus Lite file and milvus-lite is not installed.
    """

    def __init__(self, uri: str, *, token: str = "", db_name: str = "") -> None:
        self.place = without_credentials(uri)
        self._lite_path = str(Path(uri).absolute()) if is_lite(uri) else None
        if self._lite_path is not None:
            _check_lite_path(Path(uri))
            with _lite_lock:
                self.client = self._connect(self._lite_path, token, db_name)
        elif uri.partition(":")[0].lower() not in _SERVER_SCHEMES:
            raise MilvusError(f"{self.place!r} is no Milvus URI: give a file that ends in .db or http://host:19530")
        else:
            self.client = self._connect(uri, token, db_name)

    def _connect(self, uri: str, token: str, db_name: str) -> Any:
        # "dedicated": a connection of its own, so that closing it closes it.
        options: dict[str, Any] = {"dedicated": True}
        if self._lite_path is not None:
            options["grpc_options"] = _LITE_CHANNEL
        was_open = self._lite_path is not None and _lite_is_open(self._lite_path)
        with _quiet_logs() as logged:
            try:
                client = MilvusClient(uri, token=token, db_name=db_name, **options)
            except MilvusException as error:
                raise MilvusError(self._why_not(error, logged)) from error
        if self._lite_path is not None and (self._lite_path in _lite_users or not was_open):
            _lite_users[self._lite_path] = _lite_users.get(self._lite_path, 0) + 1
        return client

    def _why_not(self, error: MilvusException, logged: list[BaseException]) -> str:
        if self._lite_path is not None:
            cause = logged[-1] if logged else error
            if type(cause).__name__ == "DataDirLockedError":
                return f"{self.place} is open in another process: close it there, or use a Milvus server to share data"
            return f"cannot open {self.place} as a Milvus Lite file: {_one_line(cause)}"
        code = getattr(error.__cause__, "code", lambda: None)()
        if getattr(code, "name", "") in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return f"the Milvus server at {self.place} rejected the token: check token (an API key or user:password)"
        if error.code == 2:  # pymilvus.client.types.Status.CONNECT_FAILED
            return f"no Milvus server answers at {self.place}: start it, check the URI, or use a file such as milvus.db"
        return f"cannot connect to Milvus at {self.place}: {_one_line(error)}"

    @contextmanager
    def request(self, doing: str) -> Iterator[Any]:
        """Give the client for one request; a failure is raised as `MilvusError` that says what was being done."""
        with _quiet_logs():
            try:
                yield self.client
            except (MilvusException, grpc.RpcError) as error:
                raise MilvusError(f"{doing}: {_one_line(error)}") from error

    def close(self) -> None:
        """Close the connection; the last one to close a Milvus Lite file lets other processes open it.

        A file that the process had opened by other means before trivec did stays open.
        """
        self.client.close()
        if self._lite_path is None:
            return
        with _lite_lock:
            users = _lite_users.pop(self._lite_path, 0) - 1
            if users > 0:
                _lite_users[self._lite_path] = users
            elif users == 0:
                import_module("milvus_lite.server_manager").server_manager_instance.release_server(self._lite_path)


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


def _check_lite_path(path: Path) -> None:
    try:
        import_module("milvus_lite")
    except ImportError as error:
        raise MissingExtraError("milvus", "milvus-lite") from error
    if not path.absolute().parent.is_dir():
        raise MilvusError(f"cannot open {path}: the folder {path.absolute().parent} does not exist")
    # Where the application sets up no logging, Python would print Milvus Lite's tracebacks on stderr.
    logging.getLogger("milvus_lite").addHandler(logging.NullHandler())
    if path.is_file():
        raise MilvusError(
            f"{path} is a single file, not a Milvus Lite 3 database (a folder): it may come from Milvus Lite 2; "
            "choose another name and index the documents again"
        )


def _lite_is_open(path: str) -> bool:
    """Return whether this process has the Milvus Lite file open already."""
    return path in getattr(import_module("milvus_lite.server_manager").server_manager_instance, "_servers", {})


def _one_line(error: BaseException) -> str:
    message = str(error)
    if isinstance(error, MilvusException):
        message = str(error.message)
    elif isinstance(error, grpc.Call):  # what a refused request raises; its str() spans lines
        message = str(error.details())
    return " ".join(message.split())


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
    loggers = [logging.getLogger(name) for name in ("pymilvus.decorators", "milvus_lite.server_manager")]
    for logger in loggers:
        logger.addFilter(quiet)
    try:
        yield quiet.errors
    finally:
        for logger in loggers:
            logger.removeFilter(quiet)
