"""Requests to a `trivec serve`: where it is, the key, what is asked again and how long, and refusals as errors.

Knows nothing of vectors. The key stands in the header of a request and nowhere else: no message and no repr has it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from trivec import __version__
from trivec.errors import ServerError
from trivec.support.forks import PerProcess

T = TypeVar("T")

KEY_VARIABLE = "TRIVEC_API_KEY"
# A request that fails by what may pass is sent again for so many seconds after the first failure; one to a server that
# has not answered yet, and may not be there at all, for fewer.
PATIENCE = 300.0
PATIENCE_AT_FIRST = 5.0
_BUSY = {429: "is busy", 502: "is out of reach", 503: "is not ready", 504: "is out of reach"}
# Seconds before a request is sent again, where the server does not say: doubled each time, up to the second.
_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
_CONNECTING = 10.0  # seconds
_MESSAGE = 300  # characters of a server's own message that are shown
_LARGE = 500_000  # bytes of an answer that are read beside asyncio's loop, which they would hold up


@dataclass(frozen=True)
class Endpoint:
    """Where a server is, and the key for it.

    Attributes:
        url: Without a slash at its end.
        api_key: None for a server without one.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, api_key: str | None) -> Endpoint:
        """Check a URL and a key; without a key, that of the environment is taken.

        Raises:
            TypeError: The key is no str.
            ValueError: The URL is none of a server, or one of the two cannot be used.
        """
        try:
            parts = urlsplit(url.strip())
            host, user, _ = parts.hostname, parts.username or parts.password, parts.port
        except ValueError as error:
            raise ValueError(f"{url!r:.60} is no URL of a server ({error}): write http://host:8080") from None
        if user is not None:
            raise ValueError(f"the URL of {host} holds a user or password: give the key as api_key or {KEY_VARIABLE}")
        if not host or parts.query or parts.fragment:
            raise ValueError(f"{url!r:.60} is no URL of a server: write http://host:8080")
        if api_key is not None and not isinstance(api_key, str):
            raise TypeError(f"api_key is a {type(api_key).__name__}, expected a str")
        key = (os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key).strip()
        if not (key.isascii() and key.isprintable()):
            where = KEY_VARIABLE if api_key is None else "api_key"
            raise ValueError(f"{where} holds a character that no key can have: a key is printable ASCII")
        return cls(f"{parts.scheme.lower()}://{parts.netloc}{parts.path.rstrip('/')}", key or None)

    def client_options(self) -> dict[str, Any]:
        """The options of a client of httpx2, but for the transport."""
        headers = {"accept-encoding": "identity", "user-agent": f"trivec/{__version__}"}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        # A request may wait and compute for minutes; of a server that is gone, TCP's own probes tell.
        return {"headers": headers, "timeout": httpx2.Timeout(None, connect=_CONNECTING), "trust_env": False}

    def transport_options(self) -> dict[str, Any]:
        """The options of a transport of httpx2."""
        parts = urlsplit(self.url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        probes = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        options += [(socket.IPPROTO_TCP, getattr(socket, name), n) for name, n in probes if hasattr(socket, name)]
        return {
            "verify": parts.scheme == "https",  # loading certificates takes a tenth of a second
            "proxy": proxy,
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=4.0),
            "socket_options": options,
        }


class Connection:
    """Asks a server and waits for the answer; for any thread, and anew in a forked child."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client = PerProcess(self._made(), self._made)

    def _made(self) -> httpx2.Client:
        transport = httpx2.HTTPTransport(**self._endpoint.transport_options())
        return httpx2.Client(transport=transport, **self._endpoint.client_options())

    def ask(self, method: str, path: str, body: bytes | None = None, patience: float | None = None) -> Any:
        """Return the JSON that a request is answered with.

        Args:
            method: "GET" or "POST".
            path: Begins with a slash.
            body: JSON.
            patience: Seconds during which a lost connection is sought again; `PATIENCE` if None.

        Raises:
            ServerError: The server cannot be reached, is busy for too long, refuses the request, or answers no JSON.
        """
        attempts = _Attempts(self._endpoint.url, patience)
        while True:
            try:
                response = self._client.get().request(method, self._endpoint.url + path, **_with_body(body))
            except httpx2.TransportError as error:
                pause = attempts.pause_after_loss(error)
            else:
                if response.status_code not in _BUSY:
                    return attempts.answer(response, f"{method} {path}")
                pause = attempts.pause_after_refusal(response)
            time.sleep(pause)

    def close(self) -> None:
        """Close this process's connections."""
        if (client := self._client.own()) is not None:
            client.close()


class AsyncConnection:
    """The same for asyncio, whatever loop runs. A request that is cancelled is cut off, and the server told so."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}

    async def ask(self, method: str, path: str, body: bytes, read: Callable[[Any], T]) -> T:
        """Return what `read` makes of the JSON that a request is answered with; else as `Connection.ask`."""
        attempts = _Attempts(self._endpoint.url, None)

        def answer() -> T:
            return read(attempts.answer(response, f"{method} {path}"))

        client = self._client()
        while True:
            try:
                response = await client.request(method, self._endpoint.url + path, **_with_body(body))
            except httpx2.TransportError as error:
                pause = attempts.pause_after_loss(error)
            else:
                if response.status_code not in _BUSY:
                    large = len(response.content) > _LARGE
                    return await asyncio.to_thread(answer) if large else answer()
                pause = attempts.pause_after_refusal(response)
            await asyncio.sleep(pause)

    def _client(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients = {each: client for each, client in self._clients.items() if not each.is_closed()}
            transport = httpx2.AsyncHTTPTransport(**self._endpoint.transport_options())
            self._clients[loop] = httpx2.AsyncClient(transport=transport, **self._endpoint.client_options())
        return self._clients[loop]

    async def close(self) -> None:
        """Close the connections of the running loop."""
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            await client.aclose()


class _Attempts:
    """How often one request was sent, for how long it is sent again, and what its answer means."""

    def __init__(self, url: str, patience: float | None) -> None:
        self._url = url
        self._patience = PATIENCE if patience is None else patience
        self._failures = 0
        self._first_failure = 0.0

    def pause_after_loss(self, error: httpx2.TransportError) -> float:
        """Return the seconds to wait after a connection was lost or not made.

        Raises:
            ServerError: It is no use, or has been tried for long enough.
        """
        what = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
            raise ServerError(f"{self._url} cannot be asked ({what:.200})") from None
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
            return self._pause(f"cannot be reached ({what:.200})", self._patience, None)
        # What was kept open is often closed by the server as it is used again: then another one does at once.
        return self._pause(f"broke the connection off ({what:.200})", self._patience, None, at_once=True)

    def pause_after_refusal(self, response: httpx2.Response) -> float:
        """Return the seconds to wait after an answer that says to come again.

        Raises:
            ServerError: That is too long, or has been tried for long enough.
        """
        try:
            asked = max(0.0, float(response.headers.get("retry-after", "")))
        except ValueError:  # none, or a date
            asked = None
        why = f"{_BUSY[response.status_code]} ({response.status_code}: {_message(response)})"
        return self._pause(why, max(PATIENCE, self._patience), asked)

    def _pause(self, why: str, patience: float, asked: float | None, at_once: bool = False) -> float:
        now = time.monotonic()
        self._failures += 1
        if self._failures == 1:
            self._first_failure = now
            if at_once:
                return 0.0
        pause = min(_LONGEST_PAUSE, _PAUSE * 2 ** (self._failures - 1)) if asked is None else asked
        pause *= random.uniform(1.0, 1.25)  # noqa: S311 -- so that many who were refused do not come again together
        waited = now - self._first_failure
        if waited + pause <= patience:
            return pause
        if asked is not None and asked > patience:
            raise ServerError(f"{self._url} {why}: it asks to wait {asked:.0f} s; at most {patience:.0f} s are waited")
        times = "once" if self._failures == 1 else f"{self._failures} times in {waited:.0f} s"
        raise ServerError(f"{self._url} {why}; asked {times}, within the {patience:g} s that a request is sent again")

    def answer(self, response: httpx2.Response, request: str) -> Any:
        """Return the JSON of an answer.

        Raises:
            ServerError: It is a refusal, or no JSON.
        """
        status, said = response.status_code, _message(response)
        if status == 200:
            try:
                return json.loads(response.content)
            except ValueError:
                raise ServerError(f"{self._url} answers {request} without JSON: is it a trivec serve?") from None
        if status in (401, 403):
            raise ServerError(
                f"{self._url} refuses the API key ({status}: {said}): give the server's as api_key or {KEY_VARIABLE}"
            )
        if status in (404, 405):
            raise ServerError(f"{self._url} knows no {request} ({status}): is it a trivec serve, of this version?")
        if 300 <= status < 400:
            raise ServerError(f"{self._url} refers to {response.headers.get('location', 'elsewhere'):.200}: give that")
        raise ServerError(f"{self._url} refuses {request} ({status}): {said}")


def _with_body(body: bytes | None) -> dict[str, Any]:
    return {} if body is None else {"content": body, "headers": {"content-type": "application/json"}}


def _message(response: httpx2.Response) -> str:
    """What a refusal says, in one line."""
    if response.status_code == 200:
        return ""
    try:
        said = json.loads(response.content)
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        said = response.text
    line = " ".join(str(said).split())
    return line if len(line) <= _MESSAGE else f"{line[:_MESSAGE]} …"
