"""Documents into a table, batch by batch, and the rows of a table encoded again with another model.

This module knows nothing about searching, nor which model a collection asks for.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trivec.documents import Document
from trivec.encoding import warn_of_truncation
from trivec.errors import MilvusError
from trivec.milvus import rows, token_field
from trivec.milvus.model_record import ModelRecord
from trivec.milvus.schema import FIELDS
from trivec.milvus.table import Table, batches
from trivec.model import M3Model, encode_without_warning
from trivec.support.caller import level_of_the_caller
from trivec.support.progress import progress_bar

# Characters of texts whose token vectors are held at once: 0.3 GB at full size, where a token is a character.
_CHARACTERS_WITH_TOKENS = 65_536
# Documents encoded and then written at once: what an interrupted `add` loses at most. Small enough that the longest
# rows (64 KiB each of text, metadata and weights) stay well below the 64 MiB that a server takes in a request.
_DOCUMENTS_PER_WRITE = 128


@dataclass(frozen=True)
class Added:
    """What an `add` did.

    Attributes:
        written: Documents encoded and stored, new ones and replaced ones.
        unchanged: Documents left as they were, as the collection held the same id, text and metadata.
        blank: Documents left out, as their text is empty or blank.
    """

    written: int
    unchanged: int
    blank: int = 0


def add_documents(
    table: Table,
    model: M3Model,
    documents: Iterable[Document | Mapping[str, Any] | str],
    max_batch_tokens: int | None,
    max_length: int | None,
    skip_unchanged: bool,
    show_progress: bool,
) -> tuple[Added, int]:
    """Encode and store documents as `M3Collection.add` says; return also how many ids occurred more than once."""
    assert table.description is not None
    limits, partition_key = table.description.limits, table.description.partition_key
    total = len(documents) if isinstance(documents, Sized) else None
    written = unchanged = truncated = blank = 0
    seen: set[str] = set()
    repeated: set[str] = set()
    try:
        with progress_bar(total, "Adding", "documents", show_progress) as progress:
            for batch in batches(
                rows.checked(documents, limits, _field_names(table), partition_key), _DOCUMENTS_PER_WRITE
            ):
                for document in batch:
                    (repeated if document.id in seen else seen).add(document.id)
                # A server refuses a request that holds an id twice; the last one wins, as it would in two requests.
                by_id = {document.id: document for document in batch}
                empty = [identifier for identifier, document in by_id.items() if rows.is_blank(document.text)]
                for identifier in empty:
                    del by_id[identifier]
                if empty:
                    table.delete(table.fetch(empty, ["id"]))
                known = _unchanged(table, by_id) if skip_unchanged else frozenset()
                new = [document for identifier, document in by_id.items() if identifier not in known]
                if new:
                    truncated += _encode_and_store(table, model, new, max_batch_tokens, max_length)
                written += len(new)
                unchanged += len(known)
                blank += len(empty)
                progress.update(len(batch))
    except BaseException:
        if written:
            with suppress(MilvusError):  # what stopped the add is what the caller has to know
                table.flush()
        raise
    # With nothing written too when finishing an interrupted add, which may have been stopped before its flush.
    if written or skip_unchanged:
        table.flush()
    warn_of_truncation(truncated, written, max_length or model.max_length)
    return Added(written, unchanged, blank), len(repeated)


def encode_again(table: Table, model: M3Model) -> None:
    """Compute the vectors of every row with another model; until all are done, the table says that they are not."""
    ids = [row["id"] for row in table.listed(["id"])]
    table.set_properties(ModelRecord.of(model, unfinished=True).properties())
    with progress_bar(len(ids), "Re-encoding", "documents", True) as progress:
        for group in batches(ids, _DOCUMENTS_PER_WRITE):
            stored = table.fetch(group, ["text", "$meta"])
            documents = [Document(each, row["text"], rows.metadata(row)) for each, row in stored.items()]
            _encode_and_store(table, model, documents)
            progress.update(len(group))
    table.flush()
    table.set_properties(ModelRecord.of(model).properties())


def _encode_and_store(
    table: Table,
    model: M3Model,
    documents: Sequence[Document],
    max_batch_tokens: int | None = None,
    max_length: int | None = None,
) -> int:
    """Return how many of the documents were cut to the longest length."""
    truncated = 0
    unused_token_id = model.tokenizer.unused_ids[0]
    for part in _parts(documents) if table.tokens is not None else [documents]:
        embeddings = encode_without_warning(
            model,
            [document.text for document in part],
            max_batch_tokens=max_batch_tokens,
            max_length=max_length,
            return_sparse=model.has_sparse,
            return_colbert_vecs=table.tokens is not None,
            show_progress=False,
        )
        table.upsert([rows.row(*pair, unused_token_id, table.tokens) for pair in zip(part, embeddings, strict=True)])
        truncated += embeddings.truncated
    return truncated


def _parts(documents: Sequence[Document]) -> Iterator[Sequence[Document]]:
    """Yield documents in lists that are not too long for their token vectors to be held at once."""
    start = characters = 0
    for end, document in enumerate(documents):
        characters += len(document.text)
        if end > start and characters > _CHARACTERS_WITH_TOKENS:
            yield documents[start:end]
            start, characters = end, len(document.text)
    yield documents[start:]


def _field_names(table: Table) -> Collection[str]:
    """Return the names that metadata must not have."""
    return FIELDS if table.tokens is None else (*FIELDS, token_field.NAME)


def warn_of_repeated_ids(repeated: int, outcome: str) -> None:
    """Warn of ids that occurred more than once in what was added."""
    if repeated:
        ids = "1 id occurs" if repeated == 1 else f"{repeated} ids occur"
        warnings.warn(f"{ids} more than once; {outcome}", UserWarning, stacklevel=level_of_the_caller())


def _unchanged(table: Table, documents: Mapping[str, Document]) -> frozenset[str]:
    """Return the ids of those documents that the table holds with the same text and metadata."""
    stored: Mapping[str, Mapping[str, Any]] = table.fetch(documents, ["text", "$meta"])
    return frozenset(
        identifier
        for identifier, entity in stored.items()
        if entity["text"] == documents[identifier].text
        and rows.metadata(entity) == dict(documents[identifier].metadata)
    )
