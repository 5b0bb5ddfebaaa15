"""The fields and indexes of a collection: making them, and saying how an existing collection differs.

This module knows nothing about models or documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType

from trivec.bulk.limits import ID_BYTES, TEXT_BYTES, Limits
from trivec.bulk.partition_key import PartitionKey
from trivec.errors import MilvusError
from trivec.milvus import token_field
from trivec.milvus.settings import Settings
from trivec.milvus.token_field import TokenField

# The fields of a row; beside them stand token vectors, where they are kept, and its metadata, in the dynamic field.
FIELDS = {
    "id": DataType.VARCHAR,
    "text": DataType.VARCHAR,
    "dense": DataType.FLOAT_VECTOR,
    "sparse": DataType.SPARSE_FLOAT_VECTOR,
}

METRIC = "IP"  # BGE-M3's dense vectors have length 1 and its lexical score is an inner product
_INDEX_TYPES = {"dense": "AUTOINDEX", "sparse": "SPARSE_INVERTED_INDEX"}
# Milvus Lite 3.2.2 makes an HNSW graph of AUTOINDEX and looks at 64 of its rows, those that a filter excludes included:
# a filter that leaves few rows then finds none of them. Comparing with every row is exact, and at the sizes that a file
# is for not slower.
_LITE_INDEX_TYPES = {**_INDEX_TYPES, "dense": "FLAT"}

# As a server has it; Milvus Lite takes any name.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def name_problem(name: str) -> str:
    """Return why Milvus takes no collection of this name; empty if it does."""
    if _NAME.fullmatch(name):
        return ""
    return (
        f"{name!r} cannot be the name of a collection: Milvus takes up to 255 letters (A to Z), digits and "
        "underscores, the first one no digit"
    )


def create(
    client: Any,
    name: str,
    dense_dim: int,
    properties: Mapping[str, str] | None = None,
    tokens: TokenField | None = None,
    settings: Settings | None = None,
) -> None:
    """Create the collection, with a field for token vectors if one is given, its indexes not yet."""
    settings = settings or Settings()
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    parameters: dict[str, dict[str, Any]] = {
        "id": {"is_primary": True, "max_length": ID_BYTES},
        "text": {"max_length": TEXT_BYTES},
        "dense": {"dim": dense_dim},
        "sparse": {},
    }
    for field, data_type in FIELDS.items():
        schema.add_field(field, data_type, **parameters[field])
    if (key := settings.partition_key) is not None:
        if key.whole_numbers:
            schema.add_field(key.name, DataType.INT64, is_partition_key=True)
        else:
            schema.add_field(key.name, DataType.VARCHAR, max_length=TEXT_BYTES, is_partition_key=True)
    if tokens is not None:
        tokens.add_to(client, schema)
    # "Session": a client finds at once what it has added itself, without the wait that "Strong" has.
    level = settings.consistency or "Session"
    client.create_collection(name, schema=schema, consistency_level=level, properties=dict(properties or {}))
    if tokens is not None and token_field.NAME not in (
        field["name"] for field in client.describe_collection(name)["fields"]
    ):
        client.drop_collection(name)
        raise MilvusError(
            "Milvus made the collection without its field for token vectors: leave token_vectors out, or use another "
            "version of it"
        )


def load(client: Any, name: str, *, lite: bool, settings: Settings | None = None) -> None:
    """Have the collection loaded for searching, with an index on each vector field; a server may take a while for it.

    Indexes are also missing where the creation of a collection was interrupted. On Milvus Lite, the dense index of a
    collection made by trivec 0.1 is made again, as it left rows out.
    """
    types = dict(_LITE_INDEX_TYPES if lite else _INDEX_TYPES)
    parameters: dict[str, Any] = {}
    if settings is not None and settings.dense_index is not None:
        types["dense"], parameters = settings.dense_index.index_type, settings.dense_index.parameters()
    indexes = client.prepare_index_params()
    existing = {field: client.list_indexes(name, field_name=field) for field in types}
    if lite and existing["dense"] and client.describe_index(name, existing["dense"][0])["index_type"] == "AUTOINDEX":
        client.release_collection(name)
        client.drop_index(name, existing["dense"][0])
        existing["dense"] = []
    missing = [field for field in types if not existing[field]]
    for field in missing:
        params = parameters if field == "dense" else {}
        indexes.add_index(field, index_type=types[field], metric_type=METRIC, params=params)
    if not lite and (tokens := TokenField.read(client.describe_collection(name))) is not None:
        missing += [] if client.list_indexes(name, field_name=token_field.PATH) else [token_field.PATH]
        if token_field.PATH in missing:
            indexes.add_index(token_field.PATH, index_type=_INDEX_TYPES["dense"], metric_type=tokens.metric)
    if missing:
        client.create_index(name, indexes, sync=False)  # waiting would cost half a second an index
    client.load_collection(name, _async=True)


def is_loaded(client: Any, name: str) -> bool:
    """Return whether a collection that is being loaded has been."""
    return getattr(client.get_load_state(name)["state"], "name", "") == "Loaded"


def differences(client: Any, name: str, dense_dim: int | None, settings: Settings | None = None) -> list[str]:
    """Return in what an existing collection differs from what `create` makes; empty where it can be used.

    The size of its dense vectors is left out if `dense_dim` is None, and so is what the settings do not say.
    """
    settings = settings or Settings()
    description = client.describe_collection(name)
    fields = {field["name"]: field for field in description["fields"]}
    found = list(_field_differences(fields, dense_dim))
    if description.get("auto_id") or fields.get("id", {}).get("auto_id"):
        found.append("its ids are generated (auto_id), so documents cannot be replaced by id")
    if not description.get("enable_dynamic_field"):
        found.append("it has no dynamic field for metadata")
    for vector in _INDEX_TYPES:
        if vector in fields:
            found += _index_differences(client, name, vector)
    there = partition_key(description)
    if settings.partition_key is not None and there != settings.partition_key:
        by = "nothing" if there is None else repr(str(there))
        found.append(f"it is partitioned by {by}, not by {str(settings.partition_key)!r}")
    wanted = None if settings.dense_index is None else settings.dense_index.index_type
    if wanted is not None and (actual := index_type(client, name, "dense")) not in ("", wanted):
        found.append(f"its dense index is {actual}, not {wanted}")
    return found


def partition_key(description: Mapping[str, Any]) -> PartitionKey | None:
    """Return the field by which a collection is partitioned, of what Milvus says of it; None if there is none."""
    for field in description["fields"]:
        if field.get("is_partition_key"):
            return PartitionKey(field["name"], DataType(field["type"]) == DataType.INT64)
    return None


def index_type(client: Any, name: str, vector: str) -> str:
    """Return the type of a vector field's index; empty where it has none."""
    indexes = client.list_indexes(name, field_name=vector)
    return str(client.describe_index(name, indexes[0])["index_type"]) if indexes else ""


def size_difference(stored: int, dense_dim: int) -> str:
    """Return what to say of dense vectors of another size."""
    return f"its dense vectors have {stored} dimensions, the model's have {dense_dim}"


@dataclass(frozen=True)
class Description:
    """What Milvus says of an existing collection.

    Attributes:
        limits: The longest id and text it takes.
        fields: The names of its fields, those of metadata not among them unless somebody declared them.
        dense_dim: The size of its dense vectors.
        properties: Its properties by name.
        tokens: How it keeps token vectors; None where it keeps none.
        partition_key: The field of metadata that it is partitioned by; None if there is none.
        dense_index: The type of its dense vectors' index.
    """

    limits: Limits
    fields: tuple[str, ...]
    dense_dim: int
    properties: Mapping[str, Any]
    tokens: TokenField | None = None
    partition_key: PartitionKey | None = None
    dense_index: str = ""


def describe(client: Any, name: str) -> Description:
    """Return what Milvus says of an existing collection that has our fields."""
    description = client.describe_collection(name)
    fields = {field["name"]: field.get("params", {}) for field in description["fields"]}
    limits = Limits(*(int(fields[name].get("max_length", TEXT_BYTES)) for name in ("id", "text")))
    properties = description.get("properties") or {}
    return Description(
        limits,
        tuple(fields),
        int(fields["dense"]["dim"]),
        dict(properties),
        TokenField.read(description),
        partition_key(description),
        index_type(client, name, "dense"),
    )


def _field_differences(fields: dict[str, dict[str, Any]], dense_dim: int | None) -> Iterator[str]:
    for name, data_type in FIELDS.items():
        if name not in fields:
            yield f"it has no field {name!r} ({data_type.name})"
        elif (actual := DataType(fields[name]["type"])) != data_type:
            yield f"its field {name!r} is {actual.name}, not {data_type.name}"
        elif name == "id" and not fields[name].get("is_primary"):
            yield "its primary key is not 'id'"
        elif name == "dense" and dense_dim is not None and (dim := int(fields[name]["params"]["dim"])) != dense_dim:
            yield size_difference(dim, dense_dim)
    for name, field in fields.items():
        optional = field.get("nullable") or field.get("default_value") is not None or field.get("is_function_output")
        if name not in (*FIELDS, token_field.NAME) and not optional and not field.get("is_partition_key"):
            yield f"it requires a further field {name!r} ({DataType(field['type']).name})"


def _index_differences(client: Any, name: str, vector: str) -> list[str]:
    indexes = client.list_indexes(name, field_name=vector)
    metrics = [client.describe_index(name, index)["metric_type"] for index in indexes]
    return [f"its field {vector!r} uses the metric {metric}, not {METRIC}" for metric in metrics if metric != METRIC]
