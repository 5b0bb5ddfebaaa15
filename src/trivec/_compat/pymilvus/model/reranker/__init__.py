"""Makes `from pymilvus.model.reranker import BGERerankFunction` find trivec's class; see `pymilvus.model.hybrid`."""

from typing import Any

from trivec import BGERerankFunction

__all__ = ["BGERerankFunction"]


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: trivec provides `BGERerankFunction`, pymilvus-model the others"
    )
