"""A load client in a process of its own: sends HTTP requests over kept connections and times each, one job at a time.

Written to cost little beside the server it measures, since both share the processor: request bodies are bytes before
the clock starts, answers stay bytes, and of HTTP only what the servers here use is read (a status line, headers, a
Content-Length). Jobs and answers are pickles over standard input and output. Knows no route and no model.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# A request that takes longer than this is counted as lost.
LONGEST_ANSWER = 900.0
LOST = 0


class Request(NamedTuple):
    """One request to send: "POST", "/encode" and the bytes of a JSON body."""

    method: str
    path: str
    body: bytes


@dataclass
class Job:
    """Requests to send to a port of this machine.

    Attributes:
        port: The server's.
        requests: In the order they are begun.
        connections: Closed loop: as many requests are on their way at once.
        seconds: Go round the requests until this much time is over; once through if None.
        rate: Open loop: requests are begun at this many a second, however many are then on their way.
        keep: Bring the bodies of the answers back; if false only those other than 200.
        every: With `keep`, of each so many requests one body.
    """

    port: int
    requests: Sequence[Request]
    connections: int = 1
    seconds: float | None = None
    rate: float | None = None
    keep: bool = False
    every: int = 1


class Answer(NamedTuple):
    """What came of one request.

    Attributes:
        index: Of the request in the job's list.
        status: HTTP's; `LOST` if the connection ended or nothing came in time.
        begun: Seconds since the job's start.
        seconds: From the first byte sent to the last byte read.
        retry_after: That header, None where there was none.
        body: As bytes, None if not kept.
    """

    index: int
    status: int
    begun: float
    seconds: float
    retry_after: str | None
    body: bytes | None


@dataclass
class Report:
    """What came of a job.

    Attributes:
        answers: One for each request begun.
        wall: Seconds from the start to the last answer.
        cpu: Seconds of processor time that the client took.
        unasked: Bytes that came where no answer was awaited.
    """

    answers: list[Answer] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    unasked: int = 0


class Client:
    """The process, seen from the benchmark."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def begin(self, job: Job) -> None:
        """Start a job; `report` waits for it."""
        assert self._process.stdin is not None
        pickle.dump(job, self._process.stdin, protocol=5)
        self._process.stdin.flush()

    def report(self) -> Report:
        """Wait until the job is done."""
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)

    def run(self, job: Job) -> Report:
        """Do a job from start to end."""
        self.begin(job)
        return self.report()

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Connection(asyncio.Protocol):
    """One kept connection with at most one request on its way."""

    def __init__(self, job: Job, report: Report, started: float) -> None:
        self.job, self.all, self.started = job, report, started
        self.waiter: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._needed = 0  # bytes of header and body, 0 until the header is there
        self._index = self._status = self._body_at = 0
        self._sent = 0.0
        self._retry_after: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, index: int, head: bytes, body: bytes) -> None:
        """Send a request and wait for its answer, which is noted in the report."""
        loop = asyncio.get_running_loop()
        if self.transport is None or self.transport.is_closing():
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self.job.port)
            except OSError:
                self._index, self._sent, self._status = index, time.perf_counter(), LOST
                self._note(None)
                await asyncio.sleep(0.05)
                return
        assert self.transport is not None
        self._received.clear()
        self._needed, self._retry_after, self._index = 0, None, index
        self.waiter = loop.create_future()
        self._sent = time.perf_counter()
        timeout = loop.call_later(LONGEST_ANSWER, self.transport.abort)
        self.transport.write(head + body)
        await self.waiter
        timeout.cancel()

    def data_received(self, data: bytes) -> None:
        if self.waiter is None:
            self.all.unasked += len(data)
            return
        self._received += data
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
            self._status = int(lines[0].split()[1])
            headers = dict(line.lower().split(": ", 1) for line in lines[1:])
            self._body_at = end + 4
            self._needed = self._body_at + int(headers["content-length"])
            self._retry_after = headers.get("retry-after")
            self._closes = headers.get("connection") == "close"
        if len(self._received) >= self._needed:
            self.all.unasked += len(self._received) - self._needed
            job = self.job
            kept = self._status != 200 or (job.keep and len(self.all.answers) % job.every == 0)
            self._note(bytes(self._received[self._body_at : self._needed]) if kept else None)
            if self._closes and self.transport:
                self.transport.close()
            self._finish()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.waiter is not None:
            self._status = LOST
            self._note(None)
            self._finish()

    def _note(self, body: bytes | None) -> None:
        seconds = time.perf_counter() - self._sent
        answer = Answer(self._index, self._status, self._sent - self.started, seconds, self._retry_after, body)
        self.all.answers.append(answer)

    def _finish(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter and not waiter.done():
            waiter.set_result(None)


async def _closed_loop(job: Job, heads: list[bytes], report: Report, started: float) -> None:
    def due() -> Iterator[int]:
        position = 0
        while position < len(heads) if job.seconds is None else time.perf_counter() - started < job.seconds:
            yield position % len(heads)
            position += 1

    indices = due()

    async def caller() -> None:
        connection = _Connection(job, report, started)
        for index in indices:
            await connection.ask(index, heads[index], job.requests[index].body)
        if connection.transport:
            connection.transport.close()

    await asyncio.gather(*(caller() for _ in range(job.connections)))


async def _open_loop(job: Job, heads: list[bytes], report: Report, started: float) -> None:
    assert job.rate is not None
    assert job.seconds is not None
    free: list[_Connection] = []
    on_their_way: set[asyncio.Task[None]] = set()

    async def send(index: int) -> None:
        connection = free.pop() if free else _Connection(job, report, started)
        await connection.ask(index, heads[index], job.requests[index].body)
        free.append(connection)

    for number in range(int(job.rate * job.seconds)):
        wait = started + number / job.rate - time.perf_counter()
        if wait > 0 or number % 20 == 0:  # a late loop must still let answers in
            await asyncio.sleep(max(wait, 0))
        task = asyncio.create_task(send(number % len(heads)))
        on_their_way.add(task)
        task.add_done_callback(on_their_way.discard)
        if time.perf_counter() - started > job.seconds:
            break
    while on_their_way:
        await asyncio.gather(*on_their_way)
    for connection in free:
        if connection.transport:
            connection.transport.close()


def _head(request: Request, port: int) -> bytes:
    lines = (
        f"{request.method} {request.path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(request.body)}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _do(job: Job) -> Report:
    heads = [_head(request, job.port) for request in job.requests]
    report = Report()
    cpu, started = time.process_time(), time.perf_counter()
    asyncio.run((_open_loop if job.rate else _closed_loop)(job, heads, report, started))
    report.wall, report.cpu = time.perf_counter() - started, time.process_time() - cpu
    return report


def main() -> None:
    # As a module of its name, so that pickles are of the same classes on both sides.
    from http_client import _do as do

    while True:
        try:
            job: Any = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(do(job), sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
