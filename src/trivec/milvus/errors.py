"""What can go wrong with a Milvus collection."""

from trivec.errors import TrivecError


class MilvusError(TrivecError):
    """Milvus could not be reached or refused a request; the message is one line and holds no credentials."""


class CollectionMismatchError(MilvusError):
    """A collection of this name exists and cannot hold these vectors; the message names every difference."""
