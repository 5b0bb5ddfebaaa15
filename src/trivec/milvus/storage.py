"""What the rows of a collection take: text and vectors as they are kept, and what token vectors would take otherwise.

Bytes are those of the values, before whatever a store compresses or indexes. Looks at some rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from trivec.errors import CheckpointError
from trivec.milvus import token_field
from trivec.milvus.token_field import TokenField
from trivec.vectors.pooling import FACTORS
from trivec.vectors.token_forms import TokenForm

if TYPE_CHECKING:
    from trivec.milvus.collection import M3Collection

_ROWS_LOOKED_AT = 100
_DENSE_NUMBER, _SPARSE_ENTRY = 4, 8


@dataclass(frozen=True)
class Storage:
    """Bytes a row, mean over the rows looked at.

    Attributes:
        rows: How many were looked at.
        text: UTF-8.
        dense: Its dense vector.
        sparse: Its lexical weights.
        token_vectors: Its token vectors as they are kept; 0 where they are not.
        choices: What token vectors would take: by form and pooling factor, such as "int8, pooled by 2". Empty where it
            cannot be said, as the collection keeps none and its model is not on this machine.
    """

    rows: int
    text: float
    dense: float
    sparse: float
    token_vectors: float
    choices: dict[str, float]


def storage(collection: M3Collection) -> Storage | None:
    """Look at some rows of a collection; None where it has none.

    Raises:
        MilvusError: Milvus refused a request.
    """
    table = collection._table
    ids = [row["id"] for row in islice(table.listed(["id"]), _ROWS_LOOKED_AT)]
    held = table.fetch(ids, ["text", "sparse"])
    if not held or table.description is None:
        return None
    kept = [token_field.stored_bytes(row.get(token_field.NAME)) for row in table.stored_tokens(ids).values()]
    own = _mean(kept) if table.tokens is not None and kept else 0.0
    return Storage(
        rows=len(held),
        text=_mean([len(row["text"].encode()) for row in held.values()]),
        dense=float(table.description.dense_dim * _DENSE_NUMBER),
        sparse=_mean([len(row["sparse"]) * _SPARSE_ENTRY for row in held.values()]),
        token_vectors=own,
        choices=_choices(collection, own, [row["text"] for row in held.values()]),
    )


def _mean(sizes: list[int]) -> float:
    return round(float(np.mean(sizes)), 1)


def _choices(collection: M3Collection, own: float, texts: list[str]) -> dict[str, float]:
    table = collection._table
    if (kept := table.tokens) is not None:
        vectors, dim, server = own / kept.vector_bytes * kept.pool, kept.dim, kept.element is not None
    else:
        counted = _counted(collection, texts)
        if counted is None:
            return {}
        (vectors, dim), server = counted, not table.is_lite
    forms: tuple[TokenForm, ...] = get_args(TokenForm)
    fields = [TokenField.wanted(form, pool, dim, "3.0.0" if server else None) for form in forms for pool in FACTORS]
    return {str(field): round(vectors / field.pool * field.vector_bytes, 1) for field in fields}


def _counted(collection: M3Collection, texts: list[str]) -> tuple[float, int] | None:
    """Return how many token vectors a text has, on average, and their dimensions; None without the model's files."""
    from trivec.checkpoint import open_checkpoint
    from trivec.checkpoint.tokenizer import M3Tokenizer

    if (recorded := collection.recorded_model) is None:
        return None
    try:
        checkpoint: Any = open_checkpoint(recorded.name, local_files_only=True)
    except CheckpointError:
        return None
    if checkpoint.colbert_linear is None:
        return None
    encoded = M3Tokenizer(checkpoint.tokenizer_file).encode_batch(texts, max_length=checkpoint.config.max_length)
    # `<s>` has none.
    return float(np.mean([len(ids) - 1 for ids in encoded.token_ids])), int(checkpoint.colbert_linear.weight.shape[0])
