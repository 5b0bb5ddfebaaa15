"""Which collections a Milvus Lite file or a server holds, and dropping one. No collection or model is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trivec.errors import MilvusError
from trivec.milvus.connection import DEFAULT_TIMEOUT, Connection, is_lite
from trivec.milvus.model_record import ModelRecord
from trivec.milvus.token_field import TokenField


@dataclass(frozen=True)
class CollectionFacts:
    """What is known of a collection without loading it.

    Attributes:
        name: Its name.
        rows: How many rows it holds, chunks if it was indexed in chunks; a server counts ones deleted lately too.
        model: The model its vectors are of; None where it does not say.
        dense_dim: The size of its field "dense"; None where it has none, so that it is none of ours.
        bytes: What it takes on disk, of Milvus Lite; None for a server, which does not say.
        token_vectors: How it keeps token vectors, such as "int8, pooled by 2"; None where it keeps none.
    """

    name: str
    rows: int
    model: ModelRecord | None
    dense_dim: int | None
    bytes: int | None
    token_vectors: str | None = None


def list_collections(
    uri: str | Path, *, token: str = "", db_name: str = "", timeout: float | None = DEFAULT_TIMEOUT
) -> list[CollectionFacts]:
    """Return what is known of every collection, in the order of their names.

    Raises:
        MilvusError: There is no such file, or Milvus cannot be reached or refuses.
    """
    connection = _connect(str(uri), token, db_name, timeout)
    try:
        doing = f"{connection.place}: cannot list collections"
        names = connection.call(doing, lambda client: client.list_collections())
        return [connection.call(doing, partial(_facts, name=name, uri=str(uri))) for name in sorted(names)]
    finally:
        connection.close()


def drop_collection(
    name: str, uri: str | Path, *, token: str = "", db_name: str = "", timeout: float | None = DEFAULT_TIMEOUT
) -> None:
    """Delete a collection with everything in it.

    Raises:
        MilvusError: There is no such file or collection, or Milvus cannot be reached or refuses.
    """
    connection = _connect(str(uri), token, db_name, timeout)
    try:
        doing = f"collection {name!r} in {connection.place}: cannot drop it"
        names = connection.call(doing, lambda client: client.list_collections())
        if name not in names:
            there = ", ".join(sorted(names)) or "none"
            raise MilvusError(f"{connection.place} has no collection {name!r} (it has: {there})")
        connection.call(doing, lambda client: client.drop_collection(name))
    finally:
        connection.close()


def _connect(uri: str, token: str, db_name: str, timeout: float | None) -> Connection:
    if is_lite(uri) and not Path(uri).exists():  # opening would make it
        raise MilvusError(f"there is no Milvus Lite file {uri}: check the path")
    return Connection(uri, token=token, db_name=db_name, timeout=timeout)


def _facts(client: Any, name: str, uri: str) -> CollectionFacts:
    description = client.describe_collection(name)
    tokens = TokenField.read(description)
    dims = [field["params"].get("dim") for field in description["fields"] if field["name"] == "dense"]
    return CollectionFacts(
        name,
        int(client.get_collection_stats(name)["row_count"]),
        ModelRecord.read(description.get("properties") or {}),
        int(dims[0]) if dims and dims[0] else None,
        _bytes(Path(uri), name) if is_lite(uri) else None,
        None if tokens is None else str(tokens),
    )


def _bytes(file: Path, name: str) -> int:
    """Return the size of a collection's files, wherever in the folder of Milvus Lite they lie."""
    folders = [folder for folder in file.rglob("collections/*") if folder.name == name]
    return sum(part.stat().st_size for folder in folders for part in folder.rglob("*") if part.is_file())
