"""Token vectors of a collection's rows, from where they are stored or else encoded again, and searching by them.

A server finds documents by MaxSim itself. Milvus Lite does not: there every document is compared while that takes less
than about a second, and of more the candidates of dense and sparse search are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from trivec.milvus import rows, token_field
from trivec.milvus.table import Table
from trivec.model import M3Model, encode_without_warning
from trivec.search import hybrid, multi
from trivec.search.fusion import FusionWeights
from trivec.search.hits import Hit
from trivec.search.maxsim import scores_of_all
from trivec.search.modes import Mode
from trivec.vectors.embeddings import FloatArray, M3Embeddings, asked_for

# What reading and comparing costs with one query on one core: seconds a row and a byte that is stored.
_SECONDS_A_ROW, _SECONDS_A_BYTE = 6e-5, 5e-9
_MOST_SECONDS = 1.0
# Rows looked at to say how many bytes one has.
_ROWS_LOOKED_AT = 16


def token_vectors(table: Table, model: M3Model, hits: Sequence[Hit]) -> Mapping[str, FloatArray]:
    """Return the token vectors of hits by id: those stored with the same text, the others' encoded again."""
    found: dict[str, FloatArray] = {}
    if (field := table.tokens) is not None:
        stored = table.stored_tokens([hit.id for hit in hits])
        for hit in hits:
            vectors = field.vectors(stored[hit.id].get(token_field.NAME), hit.text) if hit.id in stored else None
            if vectors is not None:
                found[hit.id] = vectors
    lacking = [hit for hit in hits if hit.id not in found]
    if lacking:
        # Of documents that are longer than the model reads, `add` has warned.
        encoded = encode_without_warning(
            model,
            [hit.text for hit in lacking],
            return_dense=False,
            return_sparse=False,
            return_colbert_vecs=True,
            show_progress=False,
        )
        found |= zip((hit.id for hit in lacking), asked_for(encoded.colbert_vecs), strict=True)
    return found


def search(
    mode: Mode,
    table: Table,
    model: M3Model,
    encoded: M3Embeddings,
    nearest: hybrid.Nearest,
    depth: int,
    filter: str,
    weights: FusionWeights,
) -> list[list[Hit]]:
    """Return the hits of each query by token vectors ("multi") or by all three scores ("all"), best first."""
    queries = asked_for(encoded.colbert_vecs)

    def vectors(hits: Sequence[Hit]) -> Mapping[str, FloatArray]:
        return token_vectors(table, model, hits)

    by_tokens = _nearest(table, queries, nearest, depth, filter)
    if mode == "multi" and by_tokens is not None:
        return by_tokens
    found = [] if by_tokens is None else [by_tokens]
    found.append(nearest("dense", list(asked_for(encoded.dense))))
    if encoded.sparse is not None:
        found.append(hybrid.by_lexical_weights(encoded, nearest))
    candidates = multi.united(*found)
    if mode == "all":
        return multi.by_all_three(encoded, candidates, weights, table.fetch, vectors)
    bare = [[Hit(hit.id, hit.text, hit.score, hit.metadata) for hit in hits] for hits in candidates]
    return hybrid.reranked(queries, bare, vectors)


def _nearest(
    table: Table, queries: Sequence[FloatArray], nearest: hybrid.Nearest, depth: int, filter: str
) -> list[list[Hit]] | None:
    """Return what a search by token vectors alone finds; None where that would take long."""
    if (field := table.tokens) is None:
        return None
    if field.element is not None:
        return nearest(token_field.PATH, [field.asked(query) for query in queries])
    if not _is_quick(table, filter):
        return None
    ids: list[str] = []
    scores = scores_of_all(queries, _every(table, field.vectors, filter, ids))
    best = [_best(of_query, depth) for of_query in scores]
    held = table.fetch({ids[place] for of_query in best for place in of_query}, ["text", "$meta"])

    def hit(place: int, score: float) -> Hit:
        own = held[ids[place]]
        return Hit(ids[place], own["text"], score, rows.metadata(own), colbert_score=score)

    return [
        hybrid.best_first(hit(place, float(of_query[place])) for place in places if ids[place] in held)
        for of_query, places in zip(scores, best, strict=True)
    ]


def _best(scores: FloatArray, depth: int) -> list[int]:
    """Return the places of the `depth` best scores, unsorted; -inf is none."""
    places = np.arange(len(scores)) if len(scores) <= depth else np.argpartition(-scores, depth - 1)[:depth]
    return [int(place) for place in places if scores[place] > -np.inf]


def _every(
    table: Table, vectors: Callable[[Any, str], FloatArray | None], filter: str, ids: list[str]
) -> Iterator[FloatArray]:
    """Yield the token vectors of every row that has some of its text, noting the ids in the same order."""
    for row in table.every_stored_token(filter):
        own = vectors(row.get(token_field.NAME), row["text"])
        if own is not None:
            ids.append(row["id"])
            yield own


def _is_quick(table: Table, filter: str) -> bool:
    """Return whether every row can be compared in about a second, and every one looked at has its vectors."""
    count = table.count(filter)
    if count * _SECONDS_A_ROW > _MOST_SECONDS:
        return False
    looked_at = [token_field.stored_bytes(row.get(token_field.NAME)) for row in _some(table, filter)]
    if not all(looked_at):
        return False
    return count * (_SECONDS_A_ROW + _SECONDS_A_BYTE * float(np.mean(looked_at or [0]))) <= _MOST_SECONDS


def _some(table: Table, filter: str) -> Iterator[Mapping[str, Any]]:
    return islice(iter(table.every_stored_token(filter)), _ROWS_LOOKED_AT)
