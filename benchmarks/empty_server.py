"""A server that computes nothing: every request gets the same 12 KB, as long as a short query's vectors.

For measuring what the client can do at most. Prints its port; ends by SIGTERM.
"""

from __future__ import annotations

import asyncio

BODY = b'{"dense":[[' + b",".join([b"0.0123456789"] * 1024) + b"]]}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Connection(asyncio.Protocol):
    """Answers each request, which the client sends in one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        """Answer."""
        self._transport.write(ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
