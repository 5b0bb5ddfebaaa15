"""The field of a collection that keeps a row's token vectors: how it is made, what a row holds in it, what it searches.

Milvus Lite 3.2.2 knows no vector type for it and drops an array of structs without a word, so the vectors are bytes in
a JSON field there, as text. (A VARCHAR would be read back as quickly, but pymilvus looks at its every character
before it sends it: 70 ms for a text of 200 tokens.) A server from 2.6.4 on has an array of structs, each with one
vector, and an index that finds documents by MaxSim. This module knows nothing of models or requests.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymilvus import DataType
from pymilvus.client.embedding_list import EmbeddingList

from trivec.errors import MilvusError
from trivec.vectors.byte_text import bytes_of, text_of
from trivec.vectors.embeddings import FloatArray
from trivec.vectors.token_forms import TokenForm
from trivec.vectors.token_storage import bytes_per_vector, check_form, packed, quantized, unpacked

NAME = "token_vectors"
_VECTOR = "vector"
PATH = f"{NAME}[{_VECTOR}]"
"""What a server calls the vectors within the array of structs."""

MOST_VECTORS = 4_096
"""Structs that a server takes in an array."""

_FORM, _POOL, _DIM = "trivec.token_vectors", "trivec.pool", "trivec.token_dim"
# The first server with arrays of structs, and the first where their vectors may be of other types than float32.
_STRUCTS, _OTHER_TYPES = (2, 6, 4), (3, 0, 0)
_DIGEST, _DIGEST_BYTES = "text", 8
_WIDTHS = {DataType.FLOAT_VECTOR: 4, DataType.FLOAT16_VECTOR: 2, DataType.INT8_VECTOR: 1}


@dataclass(frozen=True)
class TokenField:
    """How a collection keeps token vectors.

    Attributes:
        form: "fp16" or "int8".
        pool: By what factor a document's vectors are pooled; 1: not at all.
        dim: Their dimensions.
        element: The type of a vector in the array of structs; None on Milvus Lite.
    """

    form: TokenForm
    pool: int
    dim: int
    element: DataType | None = None

    @classmethod
    def wanted(cls, form: TokenForm, pool: int, dim: int, server: str | None) -> TokenField:
        """Return the field that a new collection gets.

        Args:
            form: "fp16" or "int8".
            pool: The factor.
            dim: Dimensions of the vectors.
            server: The server's version, such as "v2.6.4"; None for Milvus Lite.

        Raises:
            MilvusError: The server is too old for it.
        """
        if server is None:
            return cls(form, pool, dim)
        version = _version(server)
        if version < _STRUCTS:
            raise MilvusError(
                f"token vectors need arrays of structs, which Milvus has since 2.6.4, and the server is {server}: "
                "update it, use a Milvus Lite file, or leave token_vectors out"
            )
        if version >= _OTHER_TYPES:
            return cls(form, pool, dim, DataType.FLOAT16_VECTOR if form == "fp16" else DataType.INT8_VECTOR)
        if form == "int8":
            raise MilvusError(
                f"the server is {server}, and Milvus before 3.0 keeps vectors in arrays of structs as float32 only: "
                'take token_vectors="fp16", which it keeps in 4 bytes a number, and pool=2 or more to need less'
            )
        return cls(form, pool, dim, DataType.FLOAT_VECTOR)

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> TokenField | None:
        """Return the field that a collection has, as its description says; None where it keeps no token vectors."""
        field = next((field for field in description["fields"] if field["name"] == NAME), None)
        properties = description.get("properties") or {}
        if field is None or _FORM not in properties:
            return None
        form, pool, dim = check_form(properties[_FORM]), int(properties[_POOL]), int(properties[_DIM])
        if field["type"] == DataType.JSON:
            return cls(form, pool, dim)
        vectors = next((each for each in field.get("struct_fields", ()) if each["name"] == _VECTOR), None)
        return None if vectors is None else cls(form, pool, dim, DataType(vectors["type"]))

    def properties(self) -> dict[str, str]:
        """Return the properties of a collection that say so."""
        return {_FORM: self.form, _POOL: str(self.pool), _DIM: str(self.dim)}

    def add_to(self, client: Any, schema: Any) -> None:
        """Add the field to the schema of a collection that is to be made."""
        if self.element is None:
            # It may be absent: another program may write rows, and they then have no vectors to be mistaken for.
            schema.add_field(NAME, DataType.JSON, nullable=True)
            return
        struct = client.create_struct_field_schema()
        struct.add_field(_VECTOR, self.element, dim=self.dim)
        schema.add_field(
            NAME, DataType.ARRAY, element_type=DataType.STRUCT, struct_schema=struct, max_capacity=MOST_VECTORS
        )

    @property
    def metric(self) -> str:
        """What a server compares by.

        Vectors have length 1, so the cosine of their int8 numbers is their inner product, whatever their scales are.
        """
        return "MAX_SIM_COSINE" if self.element == DataType.INT8_VECTOR else "MAX_SIM_IP"

    def value(self, text: str, vectors: FloatArray) -> Any:
        """Return what a row holds in the field.

        On Milvus Lite a digest of the text stands beside the vectors: it merges a row into the one that has its id, so
        a program that knows nothing of this field would leave the vectors of the text that was there before.

        Args:
            text: The row's text.
            vectors: (t, dim) float32, pooled.

        Raises:
            MilvusError: They are more than a server takes.
        """
        if self.element is None:
            return {_DIGEST: _digest(text), self.form: text_of(packed(vectors, self.form))}
        if len(vectors) > MOST_VECTORS:
            raise MilvusError(
                f"a text has {len(vectors):,} token vectors, and a Milvus server keeps {MOST_VECTORS:,} of a row: "
                "cut texts into chunks, or pool more"
            )
        if self.element == DataType.INT8_VECTOR:
            return [{_VECTOR: each} for each in quantized(vectors)[0]]
        kept = vectors.astype(np.float16)
        return [
            {_VECTOR: each} for each in (kept if self.element == DataType.FLOAT16_VECTOR else kept.astype(np.float32))
        ]

    def vectors(self, value: Any, text: str) -> FloatArray | None:
        """Return the (t, dim) float32 token vectors that a row holds; None where it holds none of its text.

        Args:
            value: What the row holds in the field; as JSON text, a dict, or a list of structs.
            text: The row's text.
        """
        if value is None:
            return None
        if self.element is None:
            if _member(value, _DIGEST) != _digest(text) or (stored := _member(value, self.form)) is None:
                return None
            return unpacked(bytes_of(stored), self.form, self.dim)
        rows = np.array([each[_VECTOR] for each in value], dtype=np.float32).reshape(-1, self.dim)
        if self.element == DataType.INT8_VECTOR:
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            np.divide(rows, lengths, out=rows, where=lengths > 0)
        return rows

    def asked(self, query: FloatArray) -> EmbeddingList:
        """Return a query's (t, dim) token vectors as a server searches by them, in the type that it stores."""
        if self.element == DataType.INT8_VECTOR:
            return EmbeddingList(quantized(query)[0])
        return EmbeddingList(query.astype(np.float16 if self.element == DataType.FLOAT16_VECTOR else np.float32))

    @property
    def vector_bytes(self) -> float:
        """What a vector takes: on Milvus Lite as text, on a server as its type."""
        if self.element is None:
            return bytes_per_vector(self.form, self.dim) * 4 / 3
        return self.dim * _WIDTHS[self.element]

    def __str__(self) -> str:
        return f"{self.form}, pooled by {self.pool}" if self.pool > 1 else self.form


def stored_bytes(value: Any) -> int:
    """Return about how many bytes a row's value takes in the field."""
    if isinstance(value, list):
        return sum(int(np.asarray(each[_VECTOR]).nbytes) for each in value)
    if isinstance(value, dict):
        return sum(map(len, value.values()))
    return 0 if value is None else len(value)


def _member(value: Any, name: str) -> str | None:
    """Return a text out of what Milvus Lite gives: a dict, or the JSON of one, of which reading all takes long."""
    if isinstance(value, str):
        # Texts in it hold nothing that JSON escapes.
        _, found, rest = value.partition(f'"{name}": "')
        if found:
            return rest[: rest.index('"')]
        value = json.loads(value)
    member = value.get(name) if isinstance(value, dict) else None
    return member if isinstance(member, str) else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _version(said: str) -> tuple[int, ...]:
    """Return a version's three numbers; of one that says none, more than any has: the server answers for itself."""
    numbers = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else (99, 0, 0)
