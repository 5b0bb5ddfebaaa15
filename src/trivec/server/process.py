"""The server's process: it listens at once, loads the model meanwhile, and stops in good order or with an error."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn

from trivec.errors import TrivecError
from trivec.model import M3Model
from trivec.server.app import App
from trivec.server.protocol import Protocol
from trivec.server.service import Service
from trivec.server.settings import ServerSettings

if TYPE_CHECKING:
    from trivec.milvus import M3Collection
    from trivec.model.m3_reranker import M3Reranker

Loaded = tuple[M3Model, "M3Collection | None", "M3Reranker | None"]

# Connections stay open between requests for longer than proxies and clients keep them, so that those close first.
_KEEP_ALIVE = 75
# Seconds after which a thread that computes in Python lets another one in. Whenever a batch is done, the thread that
# made it needs the interpreter, while the event loop has it: Python's own 5 ms are a batch's time.
_SWITCH = 0.0005
# Seconds that answers already made are given to be sent, once nothing is computed any more.
_SENDING = 5


def serve(
    listening: socket.socket,
    load: Callable[[], Loaded],
    settings: ServerSettings,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what was admitted, and return.

    Args:
        listening: Where requests come in.
        load: Gives the model, and the collection to search and the cross-encoder, if there are any; called in a second
            thread.
        settings: Who may ask and how much.
        say: Told, line by line, how it goes.

    Raises:
        TrivecError: Computing failed for good.
        KeyboardInterrupt: It was ended by Ctrl-C, in good order as well.
        BaseException: What `load` raised.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        asyncio.run(_Process(load, settings, say).run(listening))
    finally:
        sys.setswitchinterval(before)


class _Process:
    """One server, from the first signal of life to the last answer."""

    def __init__(
        self,
        load: Callable[[], Loaded],
        settings: ServerSettings,
        say: Callable[[str], None],
    ) -> None:
        self._load = load
        self._say = say
        self._settings = settings
        self._service = Service(settings, self._failed)
        self._failure: BaseException | None = None
        self._interrupted = False

    async def run(self, listening: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        config = uvicorn.Config(
            App(self._service),
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody asks for the client's address
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_SENDING,
        )
        self._server = _Server(config)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._signalled, number)
        threading.Thread(target=self._load_model, name="trivec-load", daemon=True).start()
        serving = asyncio.ensure_future(self._server.serve(sockets=[listening]))
        await self._ending.wait()
        await asyncio.to_thread(self._service.stop)
        self._server.should_exit = True
        await serving
        if self._failure is not None:
            raise self._failure
        if self._interrupted:
            raise KeyboardInterrupt

    def _load_model(self) -> None:
        try:
            model, collection, reranker = self._load()
            self._service.take(model, collection, reranker)
        except BaseException as error:
            self._failed(error)
            return
        dims = ", ".join(f"{kind} {size}" for kind, size in model.dim.items())
        if reranker is not None:
            self._say(
                f"reranking with {reranker.name}, {reranker.precision}, up to {reranker.max_length} tokens a pair"
            )
        self._say(f"ready: {model.name}, {model.precision}, {dims}, up to {model.max_length} tokens")

    def _failed(self, error: BaseException) -> None:
        """Called in another thread: nothing can be computed, now or ever."""
        if self._failure is None:
            self._failure = (
                error if isinstance(error, TrivecError) else TrivecError(f"computing failed: {error!s:.300}")
            )
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is all over
            self._loop.call_soon_threadsafe(self._ending.set)

    def _signalled(self, number: signal.Signals) -> None:
        if self._ending.is_set():  # again: whoever sends it is in earnest
            self._server.force_exit = True
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._interrupted = number == signal.SIGINT
        if self._service.state != "failed":
            self._service.state = "stopping"
        waiting = self._service.waiting_tokens
        if waiting:
            self._say(
                f"stopping: {waiting:,} tokens are still to be computed, for {self._settings.grace:.0f} s at most"
            )
        self._ending.set()


class _Server(uvicorn.Server):
    """uvicorn's server, without its handling of signals, which would end the process by the signal it was sent."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
