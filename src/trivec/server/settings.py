"""What a server is told when it is started: who may ask, and how much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Attributes:
        api_key: What requests must bring as `Authorization: Bearer ...`; None: anybody may ask.
        max_queue_tokens: Tokens that may wait to be computed.
        max_texts: Texts of a request.
        max_body: Bytes of a request's body.
        max_length: Most tokens of a text that are read; None: the model's limit.
        grace: Seconds that admitted requests are given once the server is told to stop.
    """

    api_key: str | None = None
    max_queue_tokens: int = 1_000_000
    max_texts: int = 2048
    max_body: int = 64_000_000
    max_length: int | None = None
    grace: float = 30.0
