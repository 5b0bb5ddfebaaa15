"""Makes `from pymilvus.model.hybrid import BGEM3EmbeddingFunction` find trivec's class.

Neither `pymilvus` nor `pymilvus.model` has an `__init__.py` here on purpose: both stay portions of a namespace, so that
an installed pymilvus or pymilvus-model always wins over this folder.
"""

from trivec import BGEM3EmbeddingFunction

__all__ = ["BGEM3EmbeddingFunction"]
