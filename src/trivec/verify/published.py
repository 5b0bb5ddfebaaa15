"""What others have published as BGE-M3's output, set beside what a model gives.

The values are those printed on the Milvus page "BGE M3" (float32 on a CPU, eight decimals) and on FlagEmbedding's
BGE-M3 page (half precision, four digits); they lie in `data/published.json`. This module knows nothing about printing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from trivec.model import M3Model
from trivec.vectors.embeddings import asked_for


@dataclass(frozen=True)
class Tolerances:
    """How far a value may lie from the published one.

    Attributes:
        milvus_page: Absolute difference for elements of dense vectors on the Milvus page.
        flagembedding_page: Absolute difference for weights and scores on FlagEmbedding's page, whose own values carry
            the rounding of half precision.
    """

    milvus_page: float
    flagembedding_page: float


# bf16 keeps 8 bits of mantissa, fp16 11; the bound on the dense vector as a whole is a cosine of 0.9995, of int8 0.998.
TOLERANCES = {
    "fp32": Tolerances(1e-4, 2e-3),
    "fp16": Tolerances(1e-3, 4e-3),
    "bf16": Tolerances(5e-3, 2e-2),
    "int8": Tolerances(1e-2, 4e-2),
}


@dataclass(frozen=True)
class Comparison:
    """One published value and the model's.

    Attributes:
        what: What the value is, for people to read.
        published: The published value; 0 for a lexical weight that was not published.
        computed: The model's value; 0 for a token without weight.
        tolerance: The largest absolute difference that counts as agreement.
    """

    what: str
    published: float
    computed: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the two values differ by no more than the tolerance; NaN never agrees."""
        return abs(self.published - self.computed) <= self.tolerance


def published_values() -> dict[str, Any]:
    """Return the contents of `data/published.json`: texts and values, by page."""
    values: dict[str, Any] = json.loads(files("trivec").joinpath("data", "published.json").read_text(encoding="utf-8"))
    return values


def compare_with_published(model: M3Model, published: dict[str, Any] | None = None) -> list[Comparison]:
    """Encode the published texts and return every published value with the model's.

    Args:
        model: The model.
        published: Values in the form of `published_values`, which they are if None.

    Raises:
        MissingHeadError: The model lacks a head.
    """
    published = published_values() if published is None else published
    tolerances = TOLERANCES[model.precision]
    return [
        *_milvus_page(model, published["milvus_docs_bge_m3_page"], tolerances.milvus_page),
        *_flagembedding_page(model, published["flagembedding_bge_m3_page"], tolerances.flagembedding_page),
    ]


def _milvus_page(model: M3Model, page: dict[str, Any], tolerance: float) -> Iterator[Comparison]:
    for kind in ("dense", "sparse"):
        yield Comparison(f"dim of {kind}", page["dim"][kind], model.dim[kind], 0)
    for side in ("documents", "queries"):
        embeddings = model.encode(page[side], show_progress=False)
        for number, dense in enumerate(asked_for(embeddings.dense)):
            for end, elements in (("first3", dense[:3]), ("last3", dense[-3:])):
                for element, value in enumerate(page[f"{side}_dense_{end}"][number]):
                    place = f"{'first' if end == 'first3' else 'last'} 3 [{element}]"
                    yield Comparison(f"{side}[{number}] dense, {place}", value, float(elements[element]), tolerance)
        yield Comparison(
            f"{side}: stored sparse elements", page[f"{side}_sparse_nnz"], asked_for(embeddings.sparse).nnz, 0
        )


def _flagembedding_page(model: M3Model, page: dict[str, Any], tolerance: float) -> Iterator[Comparison]:
    first, second = page["sentences_1"], page["sentences_2"]
    queries = model.encode(first, return_colbert_vecs=True, show_progress=False)
    passages = model.encode(second, return_colbert_vecs=True, show_progress=False)
    q, p = list(queries), list(passages)
    for i, row in enumerate(page["dense_similarity"]):
        for j, value in enumerate(row):
            computed = model.dense_score(asked_for(q[i].dense), asked_for(p[j].dense))
            yield Comparison(f"dense similarity [{i}][{j}]", value, computed, tolerance)
    for i, weights in enumerate(page["lexical_weights_1"]):
        own = dict(model.token_weights(first[i]))
        for token in [*weights, *(token for token in own if token not in weights)]:
            yield Comparison(
                f"weight of {token!r} in {first[i]!r}", weights.get(token, 0), own.get(token, 0), tolerance
            )
    for name, score in (
        ("lexical_score_00", model.lexical_score(asked_for(q[0].sparse), asked_for(p[0].sparse))),
        ("lexical_score_query0_query1", model.lexical_score(asked_for(q[0].sparse), asked_for(q[1].sparse))),
        ("colbert_score_00", model.colbert_score(asked_for(q[0].colbert_vecs), asked_for(p[0].colbert_vecs))),
        ("colbert_score_01", model.colbert_score(asked_for(q[0].colbert_vecs), asked_for(p[1].colbert_vecs))),
    ):
        yield Comparison(name, page[name], score, tolerance)
    scores = page["compute_score"]
    pairs = [(query, passage) for query in first for passage in second]
    computed_scores = model.compute_score(pairs, weights=scores["weights_dense_sparse_colbert"])
    for mode, values in computed_scores.items():
        for number, value in enumerate(values):
            yield Comparison(f"compute_score {mode} [{number}]", scores[mode][number], value, tolerance)
