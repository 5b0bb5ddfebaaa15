"""Indexing documents in chunks: cut, add, and remove the chunks that a shortened document no longer has.

Also said, and removed if asked for: documents that were stored from the same files and are not there any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trivec.documents import Document
from trivec.documents.chunking import chunk_documents, chunk_id
from trivec.milvus import rows, sources, values
from trivec.milvus.adding import warn_of_repeated_ids
from trivec.milvus.collection import M3Collection
from trivec.support.arguments import whole_number

# The longest chunk unless the caller says otherwise or the model reads less.
CHUNK_TOKENS = 512

# Documents whose left-over chunks are looked for at once.
_DOCUMENTS_PER_LOOK = 100


@dataclass(frozen=True)
class Indexed:
    """What indexing did.

    Attributes:
        documents: Documents read.
        written: Chunks encoded and stored.
        unchanged: Chunks left as they were.
        removed: Chunks deleted, as their document has become shorter or, with `sync`, is gone.
        blank: Documents left out, as their text is empty or blank.
        gone: Documents stored from the same sources that are no longer there; deleted with `sync`, else findable.
        kept: How many of these are still stored.
    """

    documents: int
    written: int
    unchanged: int
    removed: int
    blank: int = 0
    gone: int = 0
    kept: int = 0


def index_documents(
    collection: M3Collection,
    documents: Iterable[Document],
    *,
    max_tokens: int | None = None,
    overlap: int | None = None,
    max_batch_tokens: int | None = None,
    skip_unchanged: bool = False,
    read_from: Iterable[str | Path] = (),
    sync: bool = False,
    confirm: Callable[[Mapping[str, Sequence[str]]], bool] | None = None,
    show_progress: bool = True,
) -> Indexed:
    """Cut documents into chunks and store these; run again, it replaces them.

    The chunks that a shortened document no longer has are removed once all are stored, so the ids of all documents
    stay in memory until then.

    Args:
        collection: Where to store them.
        documents: The documents; a generator is read as it is needed.
        max_tokens: The longest chunk, in tokens; None: 512, or what the model reads if that is less.
        overlap: Tokens that neighbouring chunks share; None: as in `chunk_text`.
        max_batch_tokens: As in `M3Model.encode`.
        skip_unchanged: As in `M3Collection.add`.
        read_from: The files and folders that `documents` holds all documents of; what is stored from these (its
            metadata "path" says so) and not among them is counted as gone.
        sync: Delete what is gone.
        confirm: Called, with `sync`, before anything that is gone is deleted, with the ids of its chunks by the id of
            each document; what it returns says whether they are. None: they are.
        show_progress: Show a progress bar when it takes long.

    Returns:
        The counts.

    Raises:
        ValueError: `max_tokens` is more than the model reads, or a number is out of its range.
        TypeError: A number is none.
        Exception: What `M3Collection.add`, `chunk_text` and the iterable raise.

    Warns:
        UserWarning: Documents had the same id, so only the chunks of the last of them stay.
    """
    read_from = list(read_from)
    max_tokens = None if max_tokens is None else whole_number("max_tokens", max_tokens, 1)
    overlap = None if overlap is None else whole_number("overlap", overlap, 0)
    max_tokens = _chunk_size(max_tokens, collection.model.max_length)
    seen = blank = 0
    last_chunks: dict[str, int] = {}
    paths: set[str] = set()
    repeated: set[str] = set()

    def chunks() -> Iterator[Document]:
        nonlocal seen, blank
        for document in documents:
            if document.id in last_chunks:
                repeated.add(document.id)
            pieces = chunk_documents([document], collection.model.tokenizer, max_tokens=max_tokens, overlap=overlap)
            for number, piece in enumerate(pieces, start=1):
                yield piece
                last_chunks[document.id] = number
            if read_from and isinstance(path := document.metadata.get("path"), str):
                paths.add(path)
            seen += 1
            blank += rows.is_blank(document.text)

    # Not `add`, which would count the repeated ids of chunks.
    added, _ = collection._add(chunks(), max_batch_tokens, None, skip_unchanged, show_progress)
    warn_of_repeated_ids(len(repeated), "the last document of each is kept: are ids of several files the same?")
    # Only now is every chunk stored: a document may come twice, the second time with fewer.
    removed = 0
    ends = iter(last_chunks.items())
    while group := dict(islice(ends, _DOCUMENTS_PER_LOOK)):
        removed += _remove_leftovers(collection, group)
    gone = sources.left_over(collection._table, read_from, last_chunks, paths) if read_from else {}
    kept = len(gone)
    if sync and gone and (confirm is None or confirm(gone)):
        collection.delete(identifier for chunks_of_one in gone.values() for identifier in chunks_of_one)
        removed += sum(map(len, gone.values()))
        kept = 0
    return Indexed(seen, added.written, added.unchanged, removed, blank, len(gone), kept)


def delete_documents(collection: M3Collection, ids: str | int | Iterable[str | int]) -> tuple[int, list[str]]:
    """Delete documents with all their chunks, or single chunks by their own ids.

    Returns:
        How many rows were deleted, and those of the ids that are not there.

    Raises:
        TypeError: An id is neither a str nor an int.
        MilvusError: Milvus refused a request.
    """
    deleted = 0
    missing = []
    for identifier in values.ids(ids):
        found = set(collection.known_ids(identifier))
        if values.can_be_asked_for(identifier):
            found |= {row["id"] for row in collection._table.listed(["id"], f"document == {values.quoted(identifier)}")}
        collection.delete(found)
        deleted += len(found)
        if not found:
            missing.append(identifier)
    return deleted, missing


def longest_chunk(max_length: int) -> int:
    """Return the most tokens of a chunk that a model reading `max_length` tokens reads whole.

    The rest is for `<s>`, `</s>` and the token that a cut inside a word may add.
    """
    return max_length - 3


def _chunk_size(max_tokens: int | None, max_length: int) -> int:
    fitting = longest_chunk(max_length)
    if max_tokens is None:
        return min(CHUNK_TOKENS, fitting)
    if max_tokens > fitting:
        raise ValueError(f"max_tokens is {max_tokens}: of a chunk the model reads at most {fitting}")
    return max_tokens


def _remove_leftovers(collection: M3Collection, last_chunks: Mapping[str, int]) -> int:
    """Delete the chunks numbered beyond each document's last one; numbers have no gaps."""
    removed = 0
    following = {identifier: number + 1 for identifier, number in last_chunks.items()}
    while following:
        known = collection.known_ids(chunk_id(identifier, number) for identifier, number in following.items())
        collection.delete(known)
        removed += len(known)
        following = {
            identifier: number + 1 for identifier, number in following.items() if chunk_id(identifier, number) in known
        }
    return removed
