"""Makes `from pymilvus.model.reranker import BGERerankFunction` find trivec's class; see `pymilvus.model.hybrid`."""

from trivec import BGERerankFunction

__all__ = ["BGERerankFunction"]
