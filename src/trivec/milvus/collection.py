"""A Milvus collection of documents with BGE-M3's dense and sparse vectors: adding documents and searching them.

The token vectors are not stored (a document has one per token, a hundred times the rest); a search that reranks with
them encodes its best candidates again. This module knows nothing about files or chunks.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from trivec.documents import Document
from trivec.encoding import TruncationWarning, progress_bar
from trivec.milvus import rows, schema, searching
from trivec.milvus.connection import Connection, is_lite, without_credentials
from trivec.milvus.errors import CollectionMismatchError, MilvusError
from trivec.milvus.fusion import RRF, Weighted, own_ranker
from trivec.milvus.hits import Added, Hit
from trivec.milvus.matching import matched_words

if TYPE_CHECKING:
    from trivec.model import M3Model

Mode = Literal["dense", "sparse", "hybrid"]

T = TypeVar("T")

# Held while a collection is opened or made, so that threads that add first do not make it twice.
_creation = threading.Lock()

# Held while rows of Milvus Lite change: a flush of Milvus Lite 3.2.2 fails where another thread writes meanwhile, and a
# row is replaced there in two requests.
_lite_change = threading.RLock()

# Documents encoded and then written at once: what an interrupted `add` loses at most. Small enough that the longest
# rows (64 KiB each of text, metadata and weights) stay well below the 64 MiB that a server takes in a request.
_DOCUMENTS_PER_WRITE = 128

# Queries in one request, and ids in one look-up: both bound the size of the answer.
_QUERIES_PER_REQUEST = 100


class M3Collection:
    """A Milvus collection that holds documents and finds them by BGE-M3's vectors.

    Its fields are `id` (primary key), `text`, `dense` and `sparse` (both compared by inner product); metadata is stored
    as dynamic fields, so that a filter names them directly (`year > 2000`). An existing collection with these fields is
    used, also if it was made otherwise. A new one is made by the first `add`, and so is a Milvus Lite file.

    Example:
        >>> with M3Collection("books", model, uri="milvus.db") as books:              # doctest: +SKIP
        ...     books.add([{"id": "b1", "text": "Alan Turing was born in Maida Vale.", "metadata": {"year": 1912}}])
        ...     books.search("Where was Turing born?", mode="hybrid", limit=3, filter="year < 1950")

    Args:
        name: The collection's name.
        model: The model that encodes documents and queries.
        uri: A Milvus Lite file, whose name ends in .db, or "http(s)://host:port" of a Milvus server.
        token: An API key or "user:password", for servers that ask for one.
        db_name: The server's database; empty means the default one.

    Raises:
        MilvusError: Milvus cannot be reached, rejects the token, or the file is open in another process.
        CollectionMismatchError: a collection of this name exists and cannot hold these vectors.
        MissingExtraError: pymilvus or, for a file, milvus-lite is not installed.
    """

    def __init__(
        self, name: str, model: M3Model, uri: str | Path = "milvus.db", *, token: str = "", db_name: str = ""
    ) -> None:
        uri = str(uri)
        self.name = name
        self.model = model
        self._address = (uri, token, db_name)
        self._change: AbstractContextManager[Any] = _lite_change if is_lite(uri) else nullcontext()
        self._connection: Connection | None = None
        self._limits: schema.Limits | None = None  # known once the collection is there and fits the model
        # Opening a Milvus Lite file makes it; a search in a file whose name is mistyped should not leave one behind.
        if not is_lite(uri) or Path(uri).exists():
            self._connection = Connection(uri, token=token, db_name=db_name)
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> M3Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a Milvus Lite file can then be opened by another process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def client(self) -> Any:
        """The `pymilvus.MilvusClient`, for what this class does not do; None where there is no Milvus Lite file yet."""
        return None if self._connection is None else self._connection.client

    def count(self) -> int:
        """Return the number of documents in the collection; 0 if it does not exist yet."""
        if self._limits is None:
            return 0
        with self._request("count") as client:
            found = client.query(self.name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def add(
        self,
        documents: Iterable[Document | Mapping[str, Any] | str],
        *,
        batch_size: int = 16,
        max_length: int | None = None,
        skip_unchanged: bool = False,
        show_progress: bool = True,
    ) -> Added:
        """Encode documents and store them; a document replaces the one that has its id, metadata and all.

        Documents are read, encoded and stored as they come, so `documents` may be a generator over more than fits in
        memory; only their ids are kept, to notice those that come twice. If the call is interrupted, what has been
        stored stays; call it again with the same documents to store the rest, with `skip_unchanged=True` to be quick
        about it.

        Args:
            documents: Each a `trivec.documents.Document`, a dict with "text" and optionally "id" and "metadata", or a
                str, whose id is then derived from the text.
            batch_size: As in `M3Model.encode`.
            max_length: Tokens of a document that are encoded; None: the model's maximum.
            skip_unchanged: Leave a document as it is where the collection holds its id with the same text and metadata.
                Its vectors are then not computed again, so do not use it after changing the model.
            show_progress: Show a progress bar when it takes long.

        Returns:
            How many documents were written and how many left as they were.

        Raises:
            TypeError: a document is none of the three.
            DocumentError: a document cannot be stored whole, for instance because its text is longer than the 65,535
                bytes a Milvus VARCHAR holds. Documents before it may have been stored.
            MilvusError: Milvus refused a request.

        Warns:
            TruncationWarning: documents had more tokens than are encoded.
            UserWarning: documents had the same id, so only the last of them is stored.
        """
        added, repeated = self._add(documents, batch_size, max_length, skip_unchanged, show_progress)
        warn_of_repeated_ids(repeated, "the last document of each is kept")
        return added

    def _add(
        self,
        documents: Iterable[Document | Mapping[str, Any] | str],
        batch_size: int,
        max_length: int | None,
        skip_unchanged: bool,
        show_progress: bool,
    ) -> tuple[Added, int]:
        """As `add`, which warns of what this returns besides: how many ids occurred more than once."""
        limits = self._limits or self._create()
        total = len(documents) if isinstance(documents, Sized) else None
        written = unchanged = truncated = 0
        seen: set[str] = set()
        repeated: set[str] = set()
        try:
            with progress_bar(total, "Adding", "document", show_progress) as progress:
                for batch in _batches(rows.checked(documents, limits), _DOCUMENTS_PER_WRITE):
                    for document in batch:
                        (repeated if document.id in seen else seen).add(document.id)
                    # A server refuses a request that holds an id twice; the last one wins, as it would in two requests.
                    by_id = {document.id: document for document in batch}
                    known = self._unchanged(by_id) if skip_unchanged else frozenset()
                    new = [document for identifier, document in by_id.items() if identifier not in known]
                    truncated += self._write(new, batch_size, max_length)
                    written += len(new)
                    unchanged += len(known)
                    progress.update(len(batch))
        except BaseException:
            if written:
                with suppress(MilvusError):  # what stopped the add is what the caller has to know
                    self._flush()
            raise
        # With nothing written too when finishing an interrupted add, which may have been stopped before its flush.
        if written or skip_unchanged:
            self._flush()
        if truncated:
            warnings.warn(TruncationWarning(truncated, written, max_length or self.model.max_length), stacklevel=3)
        return Added(written, unchanged), len(repeated)

    def delete(self, ids: Iterable[str]) -> None:
        """Delete the documents with these ids; ids that are not there are passed over."""
        if self._limits is None:
            return
        for group in _batches(ids, _QUERIES_PER_REQUEST):
            with self._change, self._request("delete") as client:
                client.delete(self.name, filter=rows.id_filter(group))

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Return those of the given ids that the collection holds."""
        return set(self._stored(ids, ["id"]))

    @overload
    def search(  # type: ignore[overload-overlap]  # a str is an iterable of str too; it is one query
        self,
        queries: str,
        mode: Mode = ...,
        *,
        limit: int = ...,
        filter: str = ...,
        ranker: RRF | Weighted | None = ...,
        rerank: Literal["colbert"] | None = ...,
        candidates: int | None = ...,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        queries: Iterable[str],
        mode: Mode = ...,
        *,
        limit: int = ...,
        filter: str = ...,
        ranker: RRF | Weighted | None = ...,
        rerank: Literal["colbert"] | None = ...,
        candidates: int | None = ...,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        queries: str | Iterable[str],
        mode: Mode = "hybrid",
        *,
        limit: int = 10,
        filter: str = "",
        ranker: RRF | Weighted | None = None,
        rerank: Literal["colbert"] | None = None,
        candidates: int | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """Find the documents nearest to each query.

        A query without lexical weights finds nothing in a sparse search, and what a dense search finds in a hybrid one.

        Args:
            queries: One query, or several.
            mode: "dense", "sparse" or "hybrid": both, fused by `ranker`.
            limit: Hits for each query, at most.
            filter: A Milvus filter expression, passed on unchanged: `year > 2000 and lang == "en"`.
            ranker: `RRF(k=60)` or `Weighted(dense=0.4, sparse=0.2)`, for hybrid searches. None: weighted by the model's
                own fusion weights if its config has any, else RRF.
            rerank: "colbert" encodes the best candidates again and orders them by MaxSim of their token vectors.
            candidates: Rows that each of the two searches brings to a hybrid one, and that are reranked; at least
                `limit`. None: three times `limit`.

        Returns:
            The hits of the one query, or a list of them for each query in order; best first.

        Raises:
            MilvusError: the collection does not exist, or Milvus refused the search, for instance for its filter.
            MissingHeadError: the mode needs weights or token vectors that the model has no head for.
            ValueError: an argument is out of range or not one of those named.
            TypeError: `ranker` is neither of the two.
        """
        depth = searching.depth(mode, limit, ranker, rerank, candidates)
        texts = [queries] if isinstance(queries, str) else list(queries)
        if self._limits is None:
            raise MilvusError(self._missing())
        if not texts:
            return []
        encoded = self.model.encode(
            texts,
            return_dense=mode != "sparse",
            return_sparse=mode != "dense",
            return_colbert_vecs=rerank is not None,
            show_progress=False,
        )
        nearest = partial(self._nearest, depth=depth, filter=filter)
        if mode == "hybrid":
            found = searching.hybrid(
                encoded, ranker or own_ranker(self.model.config.fusion_weights), nearest, self._stored
            )
        elif mode == "dense":
            found = searching.dense(encoded, nearest)
        else:
            found = searching.sparse(encoded, nearest)
        if rerank is not None:
            found = searching.reranked(encoded, found, self.model)
        hits = [ranking[:limit] for ranking in found]
        return hits[0] if isinstance(queries, str) else hits

    def matched_words(self, query: str, hits: Sequence[Hit]) -> list[list[tuple[str, float]]]:
        """Return for each hit the words it shares with the query and what each adds to the sparse score, best first.

        Words are as the query spells them; of a word that is shared in part, that part.

        Raises:
            MissingHeadError: the model has no sparse head.
        """
        sparse = self.model.encode([query], return_dense=False, return_sparse=True, show_progress=False).sparse
        weights = rows.sparse_weights(sparse[0])
        tokens = self.model.tokenizer.tokens_with_spans(query)
        stored = self._stored([hit.id for hit in hits], ["sparse"])
        matched = []
        for hit in hits:
            document = stored.get(hit.id, {}).get("sparse", {})
            shared = {token: weight * document[token] for token, weight in weights.items() if token in document}
            matched.append(matched_words(query, tokens, shared))
        return matched

    def _open(self) -> None:
        """Look whether the collection is there, fits the model, and load it."""
        with self._request("open") as client:
            if not client.has_collection(self.name):
                return
            differences = schema.differences(client, self.name, self.model.dim["dense"])
            if differences:
                raise CollectionMismatchError(
                    f"collection {self.name!r} in {self.place} cannot hold these vectors: {'; '.join(differences)}"
                )
            schema.load(client, self.name)
            self._limits = schema.limits(client, self.name)

    def _create(self) -> schema.Limits:
        with _creation:
            if self._connection is None:
                uri, token, db_name = self._address
                self._connection = Connection(uri, token=token, db_name=db_name)
            if self._limits is None:
                self._open()  # another thread or process may have made it in the meantime
            if self._limits is None:
                try:
                    with self._request("create") as client:
                        schema.create(client, self.name, self.model.dim["dense"])
                        schema.load(client, self.name)
                    self._limits = schema.Limits()
                except MilvusError:
                    self._open()  # another process may have made it since
                    if self._limits is None:
                        raise
            return self._limits

    def _flush(self) -> None:
        """Have Milvus index what was written; until then Milvus Lite searches row by row, a hundred times slower."""
        with self._change, self._request("flush") as client:
            client.flush(self.name)

    def _request(self, doing: str) -> Any:
        if self._connection is None:
            raise MilvusError(f"collection {self.name!r} is closed, or {self.place} does not exist yet")
        return self._connection.request(f"collection {self.name!r} in {self.place}: cannot {doing}")

    @property
    def place(self) -> str:
        """The URI without credentials, for messages."""
        return without_credentials(self._address[0])

    def _missing(self) -> str:
        if self._connection is None:
            return f"there is no Milvus Lite file {self.place}: index documents first, or check the path"
        with self._request("list collections") as client:
            names = ", ".join(sorted(client.list_collections())) or "none"
        return f"{self.place} has no collection {self.name!r} (it has: {names}): index documents first"

    def _write(self, documents: Sequence[Document], batch_size: int, max_length: int | None) -> int:
        """Encode and store documents; return how many were cut to the longest length, of which `add` warns once."""
        if not documents:
            return 0
        new, truncated = rows.encoded(documents, self.model, batch_size, max_length)
        with self._change:
            if is_lite(self._address[0]):
                # Milvus Lite 3.2.2 merges a row into the one that has its id: metadata left out would stay. If the
                # process ends in between, running the same add again stores the documents, as after any interruption.
                self.delete(self.known_ids(document.id for document in documents))
            with self._request("add documents") as client:
                client.upsert(self.name, new)
        return truncated

    def _unchanged(self, documents: Mapping[str, Document]) -> frozenset[str]:
        """Return the ids of those documents that the collection holds with the same text and metadata."""
        stored = self._stored(documents, ["text", "$meta"])
        return frozenset(
            identifier
            for identifier, entity in stored.items()
            if entity["text"] == documents[identifier].text
            and rows.metadata(entity) == dict(documents[identifier].metadata)
        )

    def _stored(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the given fields of the rows with these ids, by id."""
        found: dict[str, Mapping[str, Any]] = {}
        if self._limits is None:
            return found
        for group in _batches(ids, _QUERIES_PER_REQUEST):
            with self._request("look up ids") as client:
                # "Strong": also what another client has written a moment ago.
                got = client.query(
                    self.name, filter=rows.id_filter(group), output_fields=list(fields), consistency_level="Strong"
                )
            found |= {entity["id"]: entity for entity in got}
        return found

    def _nearest(self, field: str, vectors: Sequence[Any], depth: int, filter: str) -> list[list[Mapping[str, Any]]]:
        """Return the rows nearest to each vector: {"id", "distance", "entity": {"text", metadata...}}."""
        found: list[list[Mapping[str, Any]]] = []
        doing = f"search with the filter {filter!r}" if filter else "search"
        for group in _batches(vectors, _QUERIES_PER_REQUEST):
            with self._request(doing) as client:
                found += client.search(
                    self.name,
                    data=group,
                    anns_field=field,
                    search_params={"metric_type": "IP"},
                    limit=depth,
                    filter=filter,
                    output_fields=["text", "$meta"],
                )
        return found


def warn_of_repeated_ids(repeated: int, outcome: str) -> None:
    """Warn, at the caller of the function that calls this, of ids that occurred more than once in what was added."""
    if repeated:
        ids = "1 id occurs" if repeated == 1 else f"{repeated} ids occur"
        warnings.warn(f"{ids} more than once; {outcome}", UserWarning, stacklevel=3)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
