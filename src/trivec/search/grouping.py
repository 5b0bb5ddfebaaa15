"""From chunks found to the documents they are of. Knows a chunk by its metadata: "document" is its document's id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from trivec.search.hits import Hit

# What a chunk's metadata says of its place in the document.
_OF_CHUNK = ("document", "chunk", "start", "end")


def by_document(hits: Sequence[Hit]) -> list[Hit]:
    """Return a hit for each document, best first, with its best chunk's text and scores, and in `chunks` all of them.

    Args:
        hits: Chunks or whole documents, best first. One that is no chunk is a document with itself as only chunk.
    """
    chunks: dict[str, list[Hit]] = {}
    for hit in hits:
        chunks.setdefault(_document(hit), []).append(hit)
    return [_joined(document, of_document) for document, of_document in chunks.items()]


def deepened(rankings: Callable[[int], list[list[Hit]]], depth: int, wanted: int, most: int) -> list[list[Hit]]:
    """Return rankings of chunks that have `wanted` documents each, as far as there are so many.

    Args:
        rankings: Gives each query's ranking, of so many chunks.
        depth: How many to begin with.
        wanted: Documents of each query.
        most: Chunks at most.
    """
    while True:
        found = rankings(depth)
        # One that is shorter than it might be has all there is.
        lacking = [ranking for ranking in found if len(ranking) >= depth and len(set(map(_document, ranking))) < wanted]
        if depth >= most or not lacking:
            return found
        depth = min(most, 4 * depth)


def check(group: object) -> None:
    """Make sure that there is such a grouping.

    Raises:
        ValueError: It is neither "document" nor None.
    """
    if group not in ("document", None):
        raise ValueError(f"group is {group!r:.60}: it must be 'document' or None")


def _document(hit: Hit) -> str:
    return str(hit.metadata.get("document", hit.id))


def _joined(document: str, chunks: Sequence[Hit]) -> Hit:
    best = chunks[0]
    metadata = {name: value for name, value in best.metadata.items() if name not in _OF_CHUNK}
    return replace(best, id=document, metadata=metadata, chunks=tuple(chunks))
