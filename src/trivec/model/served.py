"""What a server says of its model and its limits, and texts gathered into requests within these limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trivec.checkpoint.tokenizer import without_lone_surrogates
from trivec.encoding import WINDOW
from trivec.errors import ServerError

# A request ends once its texts have these many characters; with token vectors (4 KB a token at full size) fewer than a
# window in this process, as an answer is held several times over while it is read, and so are some answers.
_CHARACTERS = 4_000_000
_CHARACTERS_WITH_TOKEN_VECTORS = 25_000
# The part of the server's queue that a request may fill: there are some at once, and other clients.
_PART_OF_QUEUE = 1 / 8
_CHARACTERS_PER_TOKEN = 3  # as the server counts what it has not tokenized yet
_OTHER_FIELDS = 1000  # bytes of a request that are not its texts


@dataclass(frozen=True)
class Served:
    """A model on a server.

    Attributes:
        name: What the server loaded it as.
        precision: What it computes in.
        max_length: Most tokens of a text that are read, unless a request says otherwise.
        length_limit: The largest `max_length` of a request.
        dim: As `M3Model.dim`.
        has_sparse: Whether it gives lexical weights.
        has_colbert: Whether it gives token vectors.
        fusion_weights: Its own; None if it brings none.
        max_texts: Most texts of a request.
        max_body: Most bytes of a request.
        max_queue_tokens: Tokens that may wait there.
        max_colbert_tokens: Tokens of a request whose token vectors are asked for.
    """

    name: str
    precision: str
    max_length: int
    length_limit: int
    dim: dict[str, int]
    has_sparse: bool
    has_colbert: bool
    fusion_weights: tuple[float, float, float] | None
    max_texts: int
    max_body: int
    max_queue_tokens: int
    max_colbert_tokens: int

    @classmethod
    def read(cls, info: Any, url: str) -> Served:
        """Read the answer to `GET /info`.

        Raises:
            ServerError: It is not that of a `trivec serve`.
        """
        try:
            own, limits = info["trivec"], info["trivec"]["limits"]
            weights = own["fusion_weights"] if own["own_fusion_weights"] else None
            return cls(
                name=str(own["name"]),
                precision=str(own["precision"]),
                max_length=int(own["max_length"]),
                length_limit=int(info["max_input_length"]),
                dim={kind: int(size) for kind, size in own["dim"].items()},
                has_sparse=bool(own["has_sparse"]),
                has_colbert=bool(own["has_colbert"]),
                fusion_weights=None if weights is None else (float(weights[0]), float(weights[1]), float(weights[2])),
                max_texts=int(limits["max_texts"]),
                max_body=int(limits["max_body"]),
                max_queue_tokens=int(limits["max_queue_tokens"]),
                max_colbert_tokens=int(limits["max_colbert_tokens"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise ServerError(f"{url} is no trivec serve of this version: its /info lacks what that says") from None


class Gathering:
    """Gathers texts, or pairs of texts, as elements of a list in JSON, until a request is full."""

    def __init__(self, served: Served, url: str, max_length: int, token_vectors: bool) -> None:
        """Begin.

        Args:
            served: Whose limits hold.
            url: Of the server, for messages.
            max_length: Most tokens of a text that are read.
            token_vectors: Whether the answers will have them.
        """
        self._served, self._url, self._max_length = served, url, max_length
        self._most_texts = min(WINDOW, served.max_texts)
        self._most_characters = _CHARACTERS_WITH_TOKEN_VECTORS if token_vectors else _CHARACTERS
        tokens = served.max_queue_tokens * _PART_OF_QUEUE
        self._most_tokens = min(tokens, served.max_colbert_tokens) if token_vectors else tokens
        self._seen = 0
        self._begin()

    def _begin(self) -> None:
        self._elements: list[bytes] = []
        self._texts = self._characters = self._bytes = 0
        self._tokens = 0.0

    def add(self, element: str | tuple[str, str]) -> list[bytes] | None:
        """Add a text or a pair; if it does not go into the request any more, return that one and begin another.

        Raises:
            ValueError: It goes into no request, by itself.
        """
        texts = (element,) if isinstance(element, str) else element
        encoded = [_json(text) for text in texts]
        json_bytes = encoded[0] if isinstance(element, str) else b"[%s]" % b",".join(encoded)
        limit = self._served.max_body - _OTHER_FIELDS
        if len(json_bytes) > limit:
            raise ValueError(
                f"{'texts' if isinstance(element, str) else 'pairs'}[{self._seen}] has {len(json_bytes):,} bytes as "
                f"JSON, and {self._url} takes {limit:,} in a request: "
                "cut it, or start the server with a larger --max-body"
            )
        characters = sum(map(len, texts))
        tokens = sum(min(len(text) // _CHARACTERS_PER_TOKEN + 2, self._max_length) for text in texts)
        full = None
        if self._elements and (
            self._texts + len(texts) > self._most_texts
            or self._characters + characters > self._most_characters
            or self._bytes + len(json_bytes) > limit
            or self._tokens + tokens > self._most_tokens
        ):
            full = self.rest()
            self._begin()
        self._elements.append(json_bytes)
        self._seen += 1
        self._texts += len(texts)
        self._characters += characters
        self._bytes += len(json_bytes) + 1
        self._tokens += tokens
        return full

    def rest(self) -> list[bytes]:
        """Return the request that is not full, perhaps of no element."""
        return self._elements

    def requests(self, elements: Iterable[str] | Iterable[tuple[str, str]]) -> Iterator[tuple[list[bytes], bool]]:
        """Yield the requests for all elements, and of each whether it is the last, which may be of none.

        If going through the elements raises, that is raised after what came before.
        """
        failure = None
        try:
            for element in elements:
                if (full := self.add(element)) is not None:
                    yield full, False
        except Exception as error:  # the caller's iterable may raise anything
            failure = error
        yield self.rest(), failure is None
        if failure is not None:
            raise failure


def _json(text: str) -> bytes:
    return json.dumps(without_lone_surrogates(text), ensure_ascii=False).encode()
