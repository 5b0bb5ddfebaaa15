"""A collection as Milvus holds it: rows with an id, a text, two vectors and metadata; written, looked up, searched.

This module knows nothing about models: what a row's vectors mean is `collection`'s business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeVar

from trivec.errors import CollectionMismatchError, MilvusError
from trivec.milvus import filters, rows, schema, token_field, values
from trivec.milvus.connection import Connection, is_lite, without_credentials
from trivec.milvus.settings import Settings
from trivec.milvus.token_field import TokenField
from trivec.search.hits import Hit
from trivec.support.forks import ForkSafeLock

Row = Mapping[str, Any]
T = TypeVar("T")

# Held while a collection is opened or made, so that threads that add first do not make it twice.
_creation = ForkSafeLock()

# Held while rows of Milvus Lite change: a flush of Milvus Lite 3.2.2 fails where another thread writes meanwhile, and a
# row is replaced there in two requests.
_lite_change = ForkSafeLock(threading.RLock)

# What a Milvus server gives for one query, `offset + limit`.
MOST_ROWS = 16_384

# Queries in one request, and ids in one look-up: both bound the size of the answer.
_QUERIES_PER_REQUEST = 100
# Rows of which token vectors are looked up at once, and bytes of token vectors in one request to write: a server takes
# 64 MiB of either.
_TOKEN_ROWS_PER_REQUEST = 16
_TOKEN_BYTES_PER_REQUEST = 24 * 2**20
# Rows of a listing that come at once.
_ROWS_PER_PAGE = 1000
# Seconds between two looks at whether a server has loaded a collection.
_LOADING_PAUSE = 0.1
# Seconds a server may take to write what it holds in memory; it puts off flushes that follow each other closely.
_FLUSH_PATIENCE = 600.0
# What a score is called that a field's search gives.
_SCORES = {"dense": "dense_score", "sparse": "sparse_score", token_field.PATH: "colbert_score"}
# Rows whose metadata are looked at to say which names there are.
_ROWS_FOR_NAMES = 100


class Table:
    """A collection of a Milvus Lite file or a server, which may not exist yet.

    Args:
        name: The collection's name.
        uri: A Milvus Lite file or the URI of a server.
        token: An API key or "user:password".
        db_name: The server's database.
        timeout: As in `Connection`.
        dense_dim: The size of dense vectors that an existing collection must have; None: any.
        settings: How it is made and searched.

    Attributes:
        description: What Milvus says of it; None where it does not exist.

    Raises:
        MilvusError: Milvus cannot be reached, or takes no collection of this name.
        CollectionMismatchError: It exists and has other fields.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        token: str,
        db_name: str,
        timeout: float | None,
        dense_dim: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.name = name
        self._settings = settings or Settings()
        if is_lite(uri):
            self._settings.check_for_lite()
        self.place = without_credentials(uri)
        self.description: schema.Description | None = None
        self._uri = uri
        self._connect = partial(Connection, uri, token=token, db_name=db_name, timeout=timeout)
        self._lite = is_lite(uri)
        self._connection: Connection | None = None
        # Opening a Milvus Lite file makes it; a search in a file whose name is mistyped should not leave one behind.
        if is_lite(uri) and not Path(uri).exists():
            self._check_name()
            return
        self._connection = self._connect()
        try:
            self._open(dense_dim)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def client(self) -> Any:
        """The `pymilvus.MilvusClient`; None where there is no Milvus Lite file yet."""
        return None if self._connection is None else self._connection.client

    def _open(self, dense_dim: int | None) -> None:
        """Look whether the collection is there, has our fields, and load it."""
        if not self._call("open", lambda client: client.has_collection(self.name)):
            self._check_name()
            return
        self._refuse(
            self._call("open", lambda client: schema.differences(client, self.name, dense_dim, self._settings))
        )
        self._load()

    def create(
        self,
        dense_dim: int,
        properties: Mapping[str, str],
        tokens: Callable[[str | None], TokenField] | None = None,
    ) -> None:
        """Make the collection unless it is there.

        Args:
            dense_dim: Size of its dense vectors.
            properties: What else it says of itself.
            tokens: Gives the field for token vectors, from the server's version (Milvus Lite: None); None: no field.
        """
        with _creation.own():
            if self._connection is None:
                self._connection = self._connect()
            if self.description is None:
                self._open(dense_dim)  # another thread or process may have made it in the meantime
            if self.description is None:
                field = None if tokens is None else tokens(self._server_version())
                said = {**properties, **({} if field is None else field.properties())}
                try:
                    self._call(
                        "create",
                        lambda client: schema.create(client, self.name, dense_dim, said, field, self._settings),
                    )
                    self._load()
                except MilvusError:
                    self._open(dense_dim)  # another process may have made it since
                    if self.description is None:
                        raise

    def _server_version(self) -> str | None:
        return None if self._lite else str(self._call("ask its version", methodcaller("get_server_version")))

    @property
    def is_lite(self) -> bool:
        """Whether it lies in a Milvus Lite file."""
        return self._lite

    @property
    def tokens(self) -> TokenField | None:
        """How token vectors are kept; None where they are not."""
        return None if self.description is None else self.description.tokens

    def check_fits(self, dense_dim: int) -> None:
        """Make sure that dense vectors of this size fit the collection, if there is one.

        Raises:
            CollectionMismatchError: They do not.
        """
        if self.description is not None and self.description.dense_dim != dense_dim:
            self._refuse([schema.size_difference(self.description.dense_dim, dense_dim)])

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Store properties of the collection."""
        self._call("write properties", lambda client: client.alter_collection_properties(self.name, dict(properties)))
        self.description = self._call("open", lambda client: schema.describe(client, self.name))

    def count(self, filter: str = "") -> int:
        """Return the number of rows, or of those that a filter leaves; 0 where there is no collection."""
        if self.description is None:
            return 0
        found = self._call(
            "count",
            lambda client: client.query(
                self.name, filter=filter, output_fields=["count(*)"], consistency_level="Strong"
            ),
        )
        return int(found[0]["count(*)"])

    def _changing(self) -> AbstractContextManager[Any]:
        return _lite_change.own() if self._lite else nullcontext()

    def upsert(self, new: Sequence[Row]) -> None:
        """Write rows; each takes the place of the one with its id, metadata and all."""
        with self._changing():
            if self._lite:
                # Milvus Lite 3.2.2 merges a row into the one that has its id, so metadata left out would stay. Only
                # where there is such is the row deleted first: a process that ends in between leaves it out, until the
                # same documents are added again.
                keys = {row["id"]: row.keys() for row in new}
                stored = self.fetch(keys, ["$meta"])
                self.delete(each for each, row in stored.items() if not rows.metadata(row).keys() <= keys[each])
            for part in [list(new)] if self.tokens is None else _parts(new):
                self._call("add documents", methodcaller("upsert", self.name, part))

    def delete(self, ids: Iterable[str]) -> None:
        """Delete the rows with these ids."""
        if self.description is None:
            return
        for group in batches(filter(values.can_be_asked_for, ids), _QUERIES_PER_REQUEST):
            with self._changing():
                self._call("delete", methodcaller("delete", self.name, filter=rows.id_filter(group)))

    def flush(self) -> None:
        """Have Milvus index what was written; until then Milvus Lite searches row by row, a hundred times slower."""
        with self._changing():
            self._call("flush", lambda client: client.flush(self.name), patience=_FLUSH_PATIENCE)

    def fetch(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, Row]:
        """Return the given fields of the rows with these ids, by id."""
        found: dict[str, Row] = {}
        if self.description is None:
            return found
        for group in batches(filter(values.can_be_asked_for, ids), _QUERIES_PER_REQUEST):
            # "Strong": also what another client has written a moment ago.
            looking = methodcaller(
                "query",
                self.name,
                filter=rows.id_filter(group),
                output_fields=self._declared_too(fields),
                consistency_level="Strong",
            )
            got = self._call("look up ids", looking)
            found |= {entity["id"]: entity for entity in got}
        return found

    def stored_tokens(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return what the rows with these ids hold in the field for token vectors, and their text: as `fetch` does."""
        if (lite := self._lite_collection()) is not None:
            known = [each for each in ids if values.can_be_asked_for(each)]
            return {row["id"]: row for row in lite.get(known, output_fields=["id", "text", token_field.NAME])}
        found: dict[str, Row] = {}
        for group in batches(ids, _TOKEN_ROWS_PER_REQUEST):
            found |= self.fetch(group, ["text", token_field.NAME])
        return found

    def every_stored_token(self, filter: str) -> Iterable[Row]:
        """Return id, text and token vectors of every row, or of those that a filter leaves."""
        fields = ["id", "text", token_field.NAME]
        if (lite := self._lite_collection()) is not None:
            doing = f"search with the filter {filter!r}" if filter else "search"
            return self._call(doing, lambda _client: lite.query(expr=filter or None, output_fields=fields))
        return self.listed(fields, filter)

    def _lite_collection(self) -> Any:
        """Return Milvus Lite's own object for the collection, which reads large rows ten times as fast; None: ask."""
        return None if self._connection is None else self._connection.lite_collection(self.name)

    def listed(self, fields: Sequence[str], filter: str = "") -> Iterator[Row]:
        """Yield the given fields of every row, or of those that a filter leaves."""
        if self.description is None:
            return
        pages = self._call(
            "list documents",
            lambda client: client.query_iterator(
                self.name, _ROWS_PER_PAGE, filter=filter, output_fields=list(fields), consistency_level="Strong"
            ),
        )
        try:
            while page := self._call("list documents", lambda _client: pages.next()):
                yield from page
        finally:
            pages.close()

    def nearest(self, field: str, vectors: Sequence[Any], depth: int, filter: str) -> list[list[Hit]]:
        """Return the rows nearest to each vector, or of a server's token vectors to each list of them.

        Their score is also their `dense_score`, `sparse_score` or `colbert_score`, the last one MaxSim divided by the
        number of the query's vectors.
        """
        found: list[list[Hit]] = []
        metric = schema.METRIC
        if field == token_field.PATH and self.tokens is not None:
            metric = self.tokens.metric
        doing = f"search with the filter {filter!r}" if filter else "search"
        index_type = "" if self.description is None else self.description.dense_index
        params = self._settings.search_parameters(field, index_type)
        level = {} if self._settings.consistency is None else {"consistency_level": self._settings.consistency}
        for group in batches(vectors, _QUERIES_PER_REQUEST):
            searching = methodcaller(
                "search",
                self.name,
                data=group,
                anns_field=field,
                search_params={"metric_type": metric, **({"params": params} if params else {})},
                limit=depth,
                filter=filter,
                output_fields=self._declared_too(["text", "$meta"]),
                **level,
            )
            shares = [len(vector) if field == token_field.PATH else 1 for vector in group]
            answer = zip(self._call(doing, searching), shares, strict=True)
            found += [[_hit(row, field, share) for row in ranking] for ranking, share in answer]
        return found

    def unknown_names(self, filter: str) -> tuple[list[str], list[str]]:
        """Return which names of a filter no row has, and names that rows have, as far as a look at some tells."""
        declared = () if self.description is None else self.description.fields
        named = [name for name in filters.names(filter) if name not in declared]
        if not named:
            return [], []
        some = self._call(
            "look at metadata",
            lambda client: client.query(
                self.name, filter="", output_fields=self._declared_too(["$meta"]), limit=_ROWS_FOR_NAMES
            ),
        )
        there = sorted({name for entity in some for name in rows.metadata(entity)})
        unknown = []
        for name in (name for name in named if name not in there):
            try:
                holds = self.count(f"exists $meta[{values.quoted(name)}]")
            except MilvusError:  # servers before 2.5 know no `exists`: what they hold cannot be said
                continue
            if not holds:
                unknown.append(name)
        return unknown, there

    def missing(self) -> str:
        """Return what to say where the collection does not exist."""
        if self._connection is None:
            return f"there is no Milvus Lite file {self.place}: index documents first, or check the path"
        names = self._call("list collections", lambda client: client.list_collections())
        return (
            f"{self.place} has no collection {self.name!r} (it has: {', '.join(sorted(names)) or 'none'}): "
            "index documents first"
        )

    def _load(self) -> None:
        self._call(
            "load", lambda client: schema.load(client, self.name, lite=is_lite(self._uri), settings=self._settings)
        )
        while not self._call("load", lambda client: schema.is_loaded(client, self.name)):
            time.sleep(_LOADING_PAUSE)
        self.description = self._call("open", lambda client: schema.describe(client, self.name))

    def _declared_too(self, fields: Sequence[str]) -> list[str]:
        """Return fields to ask for: with all metadata, the one that is a field of its own, as the partition key."""
        key = None if self.description is None else self.description.partition_key
        return [*fields, key.name] if key is not None and "$meta" in fields else list(fields)

    def _check_name(self) -> None:
        if problem := schema.name_problem(self.name):
            raise MilvusError(problem)

    def _refuse(self, differences: Sequence[str]) -> None:
        if differences:
            raise CollectionMismatchError(
                f"collection {self.name!r} in {self.place} cannot hold these vectors: {'; '.join(differences)}"
            )

    def _call(self, doing: str, request: Callable[[Any], T], *, patience: float | None = None) -> T:
        if self._connection is None:
            raise MilvusError(f"collection {self.name!r} is closed, or {self.place} does not exist yet")
        doing = f"collection {self.name!r} in {self.place}: cannot {doing}"
        return self._connection.call(doing, request, patience=patience)


def _hit(row: Row, field: str, share: int) -> Hit:
    entity, score = row["entity"], float(row["distance"]) / share
    scores: dict[str, Any] = {_SCORES[field]: score}
    return Hit(row["id"], entity["text"], score, rows.metadata(entity), **scores)


def _parts(new: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield rows in lists whose token vectors fit into a request."""
    part: list[Row] = []
    size = 0
    for row in new:
        own = token_field.stored_bytes(row[token_field.NAME])
        if part and size + own > _TOKEN_BYTES_PER_REQUEST:
            yield part
            part, size = [], 0
        part.append(row)
        size += own
    if part:
        yield part


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
