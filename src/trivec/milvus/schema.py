"""The fields and indexes of a collection: making them, and saying how an existing collection differs.

This module knows nothing about models or documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType

# Bytes of UTF-8, as a Milvus server counts them. Milvus Lite counts characters, so trivec checks both itself.
ID_BYTES = 1_024
TEXT_BYTES = 65_535

_METRIC = "IP"  # BGE-M3's dense vectors have length 1 and its lexical score is an inner product
_INDEX_TYPES = {"dense": "AUTOINDEX", "sparse": "SPARSE_INVERTED_INDEX"}


@dataclass(frozen=True)
class Limits:
    """The longest id and text of a collection, in bytes of UTF-8."""

    id_bytes: int = ID_BYTES
    text_bytes: int = TEXT_BYTES


def create(client: Any, name: str, dense_dim: int) -> None:
    """Create the collection, its indexes not yet."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    schema.add_field("text", DataType.VARCHAR, max_length=TEXT_BYTES)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dense_dim)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    # "Session": a client finds at once what it has added itself, without the wait that "Strong" has.
    client.create_collection(name, schema=schema, consistency_level="Session")


def load(client: Any, name: str) -> None:
    """Load the collection for searching, with an index on each vector field.

    Indexes are also missing where the creation of a collection was interrupted.
    """
    indexes = client.prepare_index_params()
    missing = [field for field in _INDEX_TYPES if not client.list_indexes(name, field_name=field)]
    for field in missing:
        indexes.add_index(field, index_type=_INDEX_TYPES[field], metric_type=_METRIC)
    if missing:
        client.create_index(name, indexes, sync=False)  # waiting would cost half a second an index
    client.load_collection(name)


def differences(client: Any, name: str, dense_dim: int) -> list[str]:
    """Return in what an existing collection differs from what `create` makes; empty where it can be used."""
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
    return found


def limits(client: Any, name: str) -> Limits:
    """Return the longest id and text that an existing collection takes."""
    lengths = {
        field["name"]: int(field.get("params", {}).get("max_length", TEXT_BYTES))
        for field in client.describe_collection(name)["fields"]
    }
    return Limits(lengths["id"], lengths["text"])


def _field_differences(fields: dict[str, dict[str, Any]], dense_dim: int) -> Iterator[str]:
    expected = {
        "id": DataType.VARCHAR,
        "text": DataType.VARCHAR,
        "dense": DataType.FLOAT_VECTOR,
        "sparse": DataType.SPARSE_FLOAT_VECTOR,
    }
    for name, data_type in expected.items():
        if name not in fields:
            yield f"it has no field {name!r} ({data_type.name})"
        elif (actual := DataType(fields[name]["type"])) != data_type:
            yield f"its field {name!r} is {actual.name}, not {data_type.name}"
        elif name == "id" and not fields[name].get("is_primary"):
            yield "its primary key is not 'id'"
        elif name == "dense" and (dim := int(fields[name]["params"]["dim"])) != dense_dim:
            yield f"its dense vectors have {dim} dimensions, the model's have {dense_dim}"
    for name, field in fields.items():
        optional = field.get("nullable") or field.get("default_value") is not None or field.get("is_function_output")
        if name not in expected and not optional:
            yield f"it requires a further field {name!r} ({DataType(field['type']).name})"


def _index_differences(client: Any, name: str, vector: str) -> list[str]:
    indexes = client.list_indexes(name, field_name=vector)
    metrics = [client.describe_index(name, index)["metric_type"] for index in indexes]
    return [f"its field {vector!r} uses the metric {metric}, not {_METRIC}" for metric in metrics if metric != _METRIC]
