"""Makes `from pymilvus.model.hybrid import BGEM3EmbeddingFunction` find trivec's class.

`pymilvus` has no `__init__.py` here on purpose: it stays a portion of a namespace, so that an installed pymilvus always
wins over this folder; `pymilvus.model` gives way to an installed pymilvus-model by itself.
"""

from trivec import BGEM3EmbeddingFunction

__all__ = ["BGEM3EmbeddingFunction"]
