"""The address a server listens at. Imports nothing that takes time: clients may come before the rest is there."""

from __future__ import annotations

import socket

from trivec.errors import TrivecError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; requests wait in it until they are served.

    Args:
        host: Name or address.
        port: 0 for one that is free.

    Raises:
        TrivecError: The address cannot be listened at.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise TrivecError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise TrivecError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """Return the address as clients write it: "http://127.0.0.1:8080"."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
