"""A Milvus collection of documents with BGE-M3's vectors: adding documents and searching them.

Token vectors (one a token, a hundred times the rest) are stored where they are asked for; elsewhere a search that ranks
by them encodes its best candidates again. This module knows nothing about files or chunks, and leaves rows to `table`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from trivec.documents import Document
from trivec.errors import MilvusError
from trivec.milvus import adding, late_interaction, rows, table_model, values
from trivec.milvus.adding import Added
from trivec.milvus.connection import DEFAULT_TIMEOUT
from trivec.milvus.model_record import ModelRecord
from trivec.milvus.settings import Consistency, DenseIndex, Settings
from trivec.milvus.table import MOST_ROWS, Table
from trivec.milvus.table_tokens import TokensAsked
from trivec.model import M3Model
from trivec.search import grouping, hybrid, multi
from trivec.search.fusion import RRF, FusionWeights, Weighted, own_ranker
from trivec.search.hits import Hit, Hits
from trivec.search.modes import Mode, Rerank
from trivec.support.arguments import whole_number
from trivec.support.caller import level_of_the_caller
from trivec.vectors.embeddings import M3Embeddings, asked_for
from trivec.vectors.token_forms import TokenForm

if TYPE_CHECKING:
    from trivec.model.m3_reranker import M3Reranker


class M3Collection:
    """A Milvus collection that holds documents and finds them by BGE-M3's vectors.

    Its fields are `id` (primary key), `text`, `dense` and `sparse` (both compared by inner product); metadata is stored
    as dynamic fields, so that a filter names them directly (`year > 2000`). An existing collection with these fields is
    used, also if it was made otherwise. A new one is made by the first `add`, and so is a Milvus Lite file.

    A collection remembers the model that made its vectors, and refuses another one.

    Example:
        >>> with M3Collection("books", model, uri="milvus.db") as books:              # doctest: +SKIP
        ...     books.add([{"id": "b1", "text": "Alan Turing was born in Maida Vale.", "metadata": {"year": 1912}}])
        ...     books.search("Where was Turing born?", mode="hybrid", limit=3, filter="year < 1950")

    Args:
        name: The collection's name.
        model: The model that encodes documents and queries. None: the one that the collection names, loaded when first
            needed.
        uri: A Milvus Lite file, whose name ends in .db, or "http(s)://host:port" of a Milvus server.
        token: An API key or "user:password", for servers that ask for one.
        db_name: The server's database; empty means the default one.
        timeout: Seconds that a server is given to answer a request; if it is lost, it is asked again within that time.
            None: for ever.
        reencode: Where the collection's vectors are those of another model, encode its documents again with `model`,
            all of them and before anything else. Their texts are read up to the model's own limit.
        partition_key: A field of metadata, which every document must have as text ("lang") or as an integer
            ("tenant:int"): a new collection is partitioned by it, so that filters that name it look at few rows.
        consistency: How recent what searches see must be: "Strong", "Bounded", "Session" or "Eventually". A new
            collection is made with it ("Session" if None). Milvus Lite always sees everything.
        dense_index: `HNSW(m=16, ef_construction=200)`, `IVF_SQ8(nlist=1024)` or `DISKANN()`, for a new collection of a
            server. None: the one it picks by itself.
        effort: How much of such an index a search looks at: HNSW's `ef`, IVF's `nprobe`, DISKANN's `search_list`. More
            finds more and takes longer. None: the server's default.
        drop_ratio: The share of a query's smallest lexical weights that a server leaves out in sparse searches.
        token_vectors: How a new collection keeps token vectors, so that searches that rank by them need not encode
            documents again: "fp16" (2 bytes a number) or "int8" (1 byte, and a scale a vector). None keeps none. What
            an existing collection keeps is decided, and None takes it. Milvus Lite holds all of it in memory; a server
            must be 2.6.4 or later.
        pool: How many of a document's token vectors become one, on average: 1 to 4. What it costs: docs/quality.md.

    Raises:
        TypeError, ValueError: An argument is of another type or out of its range.
        MilvusError: Milvus cannot be reached, rejects the token, takes no collection of this name, keeps no token
            vectors, or the file is open in another process.
        CollectionMismatchError: A collection of this name exists and cannot hold these vectors, holds another model's,
            or keeps token vectors otherwise.
        MissingExtraError: `pymilvus` or, for a file, `milvus-lite` is not installed.

    Warns:
        UserWarning: The collection does not say which model its vectors are of, so this one was not compared with it.
    """

    def __init__(
        self,
        name: str,
        model: M3Model | None = None,
        uri: str | Path = "milvus.db",
        *,
        token: str = "",
        db_name: str = "",
        timeout: float | None = DEFAULT_TIMEOUT,
        reencode: bool = False,
        partition_key: str | None = None,
        consistency: Consistency | None = None,
        dense_index: DenseIndex | None = None,
        effort: int | None = None,
        drop_ratio: float = 0.0,
        token_vectors: TokenForm | None = None,
        pool: int = 1,
    ) -> None:
        self.name = name
        self._tokens = TokensAsked.checked(token_vectors, pool)
        self._model: M3Model | None = None
        self._own_model = False
        self._loading = threading.RLock()
        dense_dim = None if model is None else model.dim["dense"]
        settings = Settings.of(partition_key, consistency, dense_index, effort, drop_ratio)
        self._table = Table(name, str(uri), token, db_name, values.seconds("timeout", timeout), dense_dim, settings)
        try:
            self._tokens.check(self._table)
            if model is not None:
                self.use_model(model, reencode=reencode)
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
        """Close the connection; a Milvus Lite file can then be opened by another process.

        A model that the collection loaded itself is closed too.
        """
        self._table.close()
        if self._own_model and self._model is not None:
            self._model.close()

    @property
    def client(self) -> Any:
        """The `pymilvus.MilvusClient`, for what this class does not do; None where there is no Milvus Lite file yet."""
        return self._table.client

    @property
    def place(self) -> str:
        """The URI without credentials, for messages."""
        return self._table.place

    @property
    def model(self) -> M3Model:
        """The model that encodes documents and queries; if none was given, the one that the collection names.

        Raises:
            MilvusError: There is no collection yet, or it names no model.
            CollectionMismatchError: What the name stands for is another model by now.
            CheckpointError: The model cannot be found.
        """
        with self._loading:
            if self._model is None:
                self._model = table_model.load(self._table)
                self._own_model = True
            return self._model

    @property
    def recorded_model(self) -> ModelRecord | None:
        """What the collection says of the model its vectors are of; None where it says nothing or does not exist."""
        return table_model.recorded(self._table)

    @property
    def token_vectors(self) -> TokenForm | None:
        """How token vectors are kept, "fp16" or "int8"; None where they are not, or before the collection exists."""
        return None if self._table.tokens is None else self._table.tokens.form

    @property
    def pool(self) -> int:
        """By what factor the token vectors that are kept are pooled; 1: not at all."""
        return 1 if self._table.tokens is None else self._table.tokens.pool

    @property
    def exists(self) -> bool:
        """Whether Milvus holds the collection; a new one is made by the first `add`."""
        return self._table.description is not None

    def require(self) -> None:
        """Make sure that the collection exists, before anything is loaded to search it with.

        Raises:
            MilvusError: It does not; the message says which ones there are.
        """
        if not self.exists:
            raise MilvusError(self._table.missing())

    def use_model(self, model: M3Model, *, reencode: bool = False) -> None:
        """Encode with this model from now on, as if it had been given to the constructor.

        Args:
            model: The model.
            reencode: As for the constructor.

        Raises:
            CollectionMismatchError: The collection cannot hold the model's vectors, or holds another model's.
        """
        table_model.settle(self._table, model, reencode=reencode)
        with self._loading:
            if self._own_model and self._model is not None and self._model is not model:
                self._model.close()
            self._model, self._own_model = model, False

    def count(self) -> int:
        """Return the number of documents in the collection, or of chunks if it was indexed in chunks; 0 without one."""
        return self._table.count()

    def document_count(self) -> int:
        """Return the number of documents in the collection, the chunks of one counted once; 0 without one."""
        chunks = self._table.count("chunk > 1")
        return self._table.count() - chunks

    def add(
        self,
        documents: Iterable[Document | Mapping[str, Any] | str],
        *,
        max_batch_tokens: int | None = None,
        max_length: int | None = None,
        skip_unchanged: bool = False,
        show_progress: bool = True,
    ) -> Added:
        """Encode documents and store them; a document replaces the one that has its id, metadata and all.

        Documents are read, encoded and stored as they come, so `documents` may be a generator over more than fits in
        memory; only their ids are kept, to notice those that come twice. If the call is interrupted, what has been
        stored stays; call it again with the same documents to store the rest, with `skip_unchanged=True` to be quick
        about it.

        A document whose text is empty or blank is not stored, as it would be near to every short query; one that was
        stored under its id is deleted.

        Args:
            documents: Each a `trivec.documents.Document`, a dict with "text" and optionally "id" and "metadata", or a
                str, whose id is then derived from the text. Scalars of NumPy are stored as Python's.
            max_batch_tokens: As in `M3Model.encode`.
            max_length: Tokens of a document that are encoded; None: the model's maximum.
            skip_unchanged: Leave a document as it is where the collection holds its id with the same text and metadata.
                Its vectors are then not computed again.
            show_progress: Show a progress bar when it takes long.

        Returns:
            How many documents were written, left as they were, and left out.

        Raises:
            TypeError: A document is none of the three, or a number is none.
            ValueError: A number is out of its range.
            DocumentError: A document cannot be stored whole, for instance because its text is longer than the 65,535
                bytes a Milvus VARCHAR holds. Documents before it may have been stored.
            MilvusError: Milvus refused a request.

        Warns:
            TruncationWarning: Documents had more tokens than are encoded.
            UserWarning: Documents had the same id, so only the last of them is stored.
        """
        added, repeated = self._add(documents, max_batch_tokens, max_length, skip_unchanged, show_progress)
        adding.warn_of_repeated_ids(repeated, "the last document of each is kept")
        return added

    def _add(
        self,
        documents: Iterable[Document | Mapping[str, Any] | str],
        max_batch_tokens: int | None,
        max_length: int | None,
        skip_unchanged: bool,
        show_progress: bool,
    ) -> tuple[Added, int]:
        """As `add`, which warns of what this returns besides: how many ids occurred more than once."""
        max_batch_tokens = None if max_batch_tokens is None else whole_number("max_batch_tokens", max_batch_tokens)
        max_length = None if max_length is None else whole_number("max_length", max_length, 2)
        self._make()
        return adding.add_documents(
            self._table, self.model, documents, max_batch_tokens, max_length, skip_unchanged, show_progress
        )

    def delete(self, ids: str | int | Iterable[str | int]) -> None:
        """Delete the documents with these ids, or with this one; ids that are not there are passed over.

        Raises:
            TypeError: An id is neither a str nor an int.
            MilvusError: Milvus refused the request.
        """
        self._table.delete(list(values.ids(ids)))

    def get(self, document_id: str | int) -> Document | None:
        """Return the document of an id, or None where there is none.

        Raises:
            TypeError: The id is neither a str nor an int.
            MilvusError: Milvus refused the request.
        """
        (known,) = values.ids(document_id)
        found = self._table.fetch([known], ["text", "$meta"]).get(known)
        return None if found is None else Document(known, found["text"], rows.metadata(found))

    def known_ids(self, ids: str | int | Iterable[str | int]) -> set[str]:
        """Return those of the given ids that the collection holds, as it stores them: the id 7 as "7".

        Raises:
            TypeError: An id is neither a str nor an int.
            MilvusError: Milvus refused the request.
        """
        return set(self._table.fetch(list(values.ids(ids)), ["id"]))

    @overload
    def search(  # type: ignore[overload-overlap]  # a str is an iterable of str too; it is one query
        self,
        queries: str,
        mode: Mode = ...,
        *,
        limit: int = ...,
        offset: int = ...,
        filter: str = ...,
        ranker: RRF | Weighted | None = ...,
        rerank: Rerank | None = ...,
        reranker: M3Reranker | None = ...,
        candidates: int | None = ...,
        matched_words: bool = ...,
        group: Literal["document"] | None = ...,
        weights: FusionWeights | None = ...,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        queries: Iterable[str],
        mode: Mode = ...,
        *,
        limit: int = ...,
        offset: int = ...,
        filter: str = ...,
        ranker: RRF | Weighted | None = ...,
        rerank: Rerank | None = ...,
        reranker: M3Reranker | None = ...,
        candidates: int | None = ...,
        matched_words: bool = ...,
        group: Literal["document"] | None = ...,
        weights: FusionWeights | None = ...,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        queries: str | Iterable[str],
        mode: Mode = "hybrid",
        *,
        limit: int = 10,
        offset: int = 0,
        filter: str = "",
        ranker: RRF | Weighted | None = None,
        rerank: Rerank | None = None,
        reranker: M3Reranker | None = None,
        candidates: int | None = None,
        matched_words: bool = False,
        group: Literal["document"] | None = None,
        weights: FusionWeights | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """Find the documents nearest to each query.

        A query without lexical weights finds nothing in a sparse search, and what a dense search finds in a hybrid one.

        Args:
            queries: One query, or several.
            mode: "dense", "sparse", "hybrid" (both, fused by `ranker`), "multi" (MaxSim of token vectors) or "all" (the
                mean of all three scores, weighted by the model's fusion weights). The last two rank what a server's
                index of token vectors brings, on Milvus Lite every document where that takes about a second at most,
                and else the candidates of dense and sparse search.
            limit: Hits for each query, at most.
            offset: Hits to leave out before them, best first: 10 with a `limit` of 10 gives the second page.
            filter: A Milvus filter expression, passed on unchanged: `year > 2000 and lang == "en"`.
            ranker: `RRF(k=60)` or `Weighted(dense=0.4, sparse=0.2)`, for hybrid searches. None: weighted by the model's
                own fusion weights if its config has any, else RRF.
            rerank: "colbert" orders the best candidates by MaxSim of their token vectors: those that are stored, else
                the candidates are encoded again. "cross-encoder" has `reranker` read each together with the query,
                which is slower and better.
            reranker: For `rerank="cross-encoder"`. It reads as much of a document as its own `max_length` allows.
            candidates: Rows that each search brings to one that joins several, and that are reranked; at least
                `offset + limit`, of which None takes three times as many. Never more than the 16,384 that Milvus gives.
            matched_words: Fill `Hit.matched_words`, in whatever mode; needs the model's sparse head.
            group: "document" gives, of a collection that was indexed in chunks, documents, by their best chunk: `limit`
                and `offset` count documents then, and more candidates are looked at until there are as many.
            weights: Of dense, sparse and token-vector score in "all". None: the model's fusion weights, or 1 each.

        Returns:
            The hits of the one query, or a list of them for each query in order; best first. Notebooks show the hits
            of a query as a table.

        Raises:
            MilvusError: The collection does not exist, or Milvus refused the search, for instance for its filter.
            MissingHeadError: Weights or token vectors are needed that the model has no head for.
            ValueError: An argument is out of range or not one of those named, or a query is empty or blank.
            TypeError: `ranker` is neither of the two, or a number is none.

        Warns:
            UserWarning: Nothing was found, and the filter names a field that no document has.
        """
        limit = whole_number("limit", limit, 1)
        offset = whole_number("offset", offset, 0)
        candidates = None if candidates is None else whole_number("candidates", candidates, 1)
        depth = hybrid.depth(mode, limit, offset, ranker, rerank, candidates, MOST_ROWS)
        hybrid.check_reranker(rerank, reranker)
        grouping.check(group)
        if not isinstance(filter, str):
            raise TypeError(f"filter is {filter!r:.60} ({type(filter).__name__}): it must be a Milvus filter, a str")
        texts = [queries] if isinstance(queries, str) else list(queries)
        for position, text in enumerate(texts):
            if isinstance(text, str) and rows.is_blank(text):
                name = "the query" if isinstance(queries, str) else f"queries[{position}]"
                raise ValueError(f"{name} is empty: it would find whatever is shortest")
        weights = multi.checked(weights, mode)
        self.require()
        if not texts:
            return []
        by_tokens = mode in ("multi", "all")
        encoded = self.model.encode(
            texts,
            return_dense=mode != "sparse",
            # By lexical weights "multi" only looks for candidates.
            return_sparse=matched_words or (self.model.has_sparse if mode == "multi" else mode != "dense"),
            return_colbert_vecs=rerank == "colbert" or by_tokens,
            show_progress=False,
        )
        ranker = ranker or own_ranker(self.model.own_fusion_weights)
        weights = weights or self.model.fusion_weights

        def rankings(depth: int) -> list[list[Hit]]:
            nearest = partial(self._table.nearest, depth=depth, filter=filter)
            if by_tokens:
                return late_interaction.search(mode, self._table, self.model, encoded, nearest, depth, filter, weights)
            return hybrid.found(mode, encoded, ranker, nearest, self._table.fetch)

        found = grouping.deepened(rankings, depth, offset + limit, MOST_ROWS) if group else rankings(depth)
        if filter and not any(found):
            self._warn_of_unknown_names(filter)
        if rerank is not None:
            found = self._reranked(texts, encoded, found, reranker)
        found = [grouping.by_document(ranking) for ranking in found] if group else found
        hits = [ranking[offset : offset + limit] for ranking in found]
        if matched_words:
            spans = self.model.tokenizer.tokens_with_spans
            hits = hybrid.with_matched_words(texts, encoded, hits, self._table.fetch, spans)
        lists: list[list[Hit]] = [Hits(ranking) for ranking in hits]
        return lists[0] if isinstance(queries, str) else lists

    def _reranked(
        self, queries: list[str], encoded: M3Embeddings, found: list[list[Hit]], reranker: M3Reranker | None
    ) -> list[list[Hit]]:
        if reranker is not None:
            return hybrid.reranked_together(queries, found, reranker.relevance)
        vectors = partial(late_interaction.token_vectors, self._table, self.model)
        return hybrid.reranked(asked_for(encoded.colbert_vecs), found, vectors)

    def _make(self) -> None:
        """Make the collection unless it is there."""
        if not self.exists:
            model = self.model
            properties = ModelRecord.of(model).properties()
            self._table.create(model.dim["dense"], properties, self._tokens.field(model))
            self.use_model(model)  # somebody else may have made it meanwhile, for another model
            self._tokens.check(self._table)

    def _warn_of_unknown_names(self, filter: str) -> None:
        unknown, there = self._table.unknown_names(filter)
        if unknown:
            named = " and ".join(map(repr, unknown))
            warnings.warn(
                f"nothing found, and no document of collection {self.name!r} has the field {named} that the filter "
                f"names; fields of documents are {', '.join(map(repr, there)) or 'none'}",
                UserWarning,
                stacklevel=level_of_the_caller(),
            )
