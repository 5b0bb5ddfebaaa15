"""Milvus Lite's server for a file, where no other user of the machine reaches it.

Milvus Lite answers this process through gRPC on a port of the loopback interface, without a password: every user of the
machine could read and delete rows while it runs. Here it listens on a socket in a folder that only this user may enter.
pymilvus starts Milvus Lite itself, by way of one object, so that object is told of servers that are there already.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from concurrent import futures
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from pymilvus.grpc_gen import milvus_pb2_grpc

# Of Milvus Lite's own server.
_MESSAGE_BYTES = 256 * 1024 * 1024
_THREADS = 10
# Bytes of the longest path that a socket can have on every system; Linux has 107.
_LONGEST_PATH = 103
_PREFIX, _SOCKET = "trivec-lite-", "s"

# Folder of the socket by path of the file, for servers started here.
_folders: dict[str, Path] = {}


def is_open(path: str) -> bool:
    """Return whether this process has the Milvus Lite file open already, by whatever means."""
    return path in getattr(_manager(), "_servers", {})


def database(path: str) -> Any:
    """Return Milvus Lite's own object for a file that this process has open; None if it cannot be had."""
    entry = getattr(_manager(), "_servers", {}).get(path)
    return entry[1] if entry is not None and len(entry) > 1 else None


def start(path: str) -> None:
    """Start the server for a file, so that pymilvus finds it there, unless this process has it open.

    Where a socket is not available, nothing happens, and pymilvus starts a server on a port.

    Args:
        path: The absolute path of the file.

    Raises:
        Exception: What Milvus Lite raises where the file is damaged or open in another process.
    """
    manager = _manager()
    if is_open(path) or not hasattr(socket, "AF_UNIX") or not hasattr(manager, "_servers"):
        return
    try:
        servicer = import_module("milvus_lite.adapter.grpc.servicer").MilvusServicer
        database = import_module("milvus_lite.db").MilvusLite
    except (ImportError, AttributeError):  # another Milvus Lite than 3.2
        return
    opened = database(path)
    folder = None
    try:
        folder = _socket_folder()
        server = _serve(servicer(opened), folder / _SOCKET)
    except BaseException as error:
        opened.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError | RuntimeError):  # of gRPC, where it cannot listen there
            return
        raise
    if not isinstance(manager.start_and_get_uri, _UriOfServer):
        manager.start_and_get_uri = _UriOfServer(manager.start_and_get_uri)
        atexit.register(_remove_folders)
    _folders[path] = folder
    manager._servers[path] = (server, opened, 0)


def collection(path: str, name: str) -> Any:
    """Return Milvus Lite's own object for a loaded collection of a file that `start` opened; None where it did not.

    Rows with token vectors take ten times as long through gRPC, which copies and checks every byte of them.
    """
    if path not in _folders or (serving := getattr(_manager(), "_servers", {}).get(path)) is None:
        return None
    found = serving[1].get_collection(name)
    return found if found.load_state == "loaded" else None


def stop(path: str) -> None:
    """Stop the server for a file."""
    _manager().release_server(path)
    if (folder := _folders.pop(path, None)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


class _UriOfServer:
    """In place of the method that pymilvus asks where the server for a file is: a socket, for those started here."""

    def __init__(self, otherwise: Any) -> None:
        self._otherwise = otherwise

    def __call__(self, path: str, args: dict[str, Any] | None = None) -> str | None:
        absolute = str(Path(path).absolute())
        if absolute in _folders and is_open(absolute):
            return f"unix:{_folders[absolute] / _SOCKET}"
        uri: str | None = self._otherwise(path, args)
        return uri


def _socket_folder() -> Path:
    """Make a folder that only this user may enter, and remove those that killed processes have left.

    Raises:
        OSError: A folder cannot be made, or its path is too long for a socket.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    parent = Path(runtime if os.access(runtime, os.W_OK) else tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*/{_SOCKET}"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as attempt:
            attempt.settimeout(0.1)  # whose socket it is, is not known
            try:
                attempt.connect(str(left))
            except ConnectionRefusedError:  # nobody listens any more
                shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # mode 0700
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_PATH:
        folder.rmdir()
        raise OSError(f"{folder} is too long a path for a socket")
    return folder


def _serve(servicer: Any, address: Path) -> Any:
    limits = [(f"grpc.max_{way}_message_length", _MESSAGE_BYTES) for way in ("receive", "send")]
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=limits)
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{address}")
    server.start()
    return server


def _manager() -> Any:
    return import_module("milvus_lite.server_manager").server_manager_instance


def _remove_folders() -> None:
    for folder in _folders.values():
        shutil.rmtree(folder, ignore_errors=True)
