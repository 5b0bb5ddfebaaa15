"""Whether a cross-encoder does what it should: against published scores, and a fast precision against the exact one.

The published scores are those printed on the Milvus page "BGE" of its rerankers (float32 on a CPU, after the sigmoid)
and on FlagEmbedding's page of BAAI/bge-reranker-v2-m3 (half precision); they lie in `data/published_reranker.json`.
Knows nothing of files or printing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from trivec.model.m3_reranker import M3Reranker
from trivec.model.relevance import sigmoid
from trivec.verify.published import Comparison


@dataclass(frozen=True)
class RerankerTolerances:
    """How far a score may lie from the published one.

    Attributes:
        milvus_page: Absolute difference of scores between 0 and 1 on the Milvus page.
        flagembedding_page: Absolute difference of scores on FlagEmbedding's page, where those of half precision stand
            4/1000 to 8/1000 apart.
        flagembedding_normalized: The same after the sigmoid.
    """

    milvus_page: float
    flagembedding_page: float
    flagembedding_normalized: float


RERANKER_TOLERANCES = {
    "fp32": RerankerTolerances(1e-4, 5e-2, 2e-3),
    "fp16": RerankerTolerances(2e-3, 5e-2, 2e-3),
    "bf16": RerankerTolerances(1e-2, 2e-1, 1e-2),
    "int8": RerankerTolerances(2e-2, 4e-1, 2e-2),
}


@dataclass(frozen=True)
class RerankerDrift:
    """How far two loads of one cross-encoder, one of them exact, lie apart on some pairs.

    Attributes:
        queries: Distinct queries.
        pairs: Pairs compared.
        difference_max: Largest absolute difference of two scores, which are logits.
        difference_mean: Mean absolute difference.
        normalized_difference_max: Largest absolute difference after the sigmoid.
        worst_pair: The query and the passage whose scores differ the most.
        same_order: Of all two passages of one query, the share that both loads put in the same order; None where no
            query has two.
        same_best: Of the queries with several passages, the share of those whose best one is the same; None where
            there are none.
    """

    queries: int
    pairs: int
    difference_max: float
    difference_mean: float
    normalized_difference_max: float
    worst_pair: tuple[str, str]
    same_order: float | None
    same_best: float | None


def measure_reranker_drift(
    exact: M3Reranker, other: M3Reranker, passages: Mapping[str, Sequence[str]], *, show_progress: bool = True
) -> RerankerDrift:
    """Compare the scores of two loads of one cross-encoder.

    Args:
        exact: The checkpoint in "fp32".
        other: The same checkpoint in another precision.
        passages: The passages of each query.
        show_progress: Show bars once the work has gone on for 5 seconds.

    Raises:
        ValueError: There is no pair.
    """
    pairs = [(query, text) for query, texts in passages.items() for text in dict.fromkeys(texts)]
    if not pairs:
        raise ValueError("no pairs to compare the rerankers on: pass at least one")
    ours = np.array(exact.compute_score(pairs, show_progress=show_progress))
    # Of the same pairs: the line above has warned.
    theirs = np.array(other.scored(pairs, other.scoring_settings(show_progress=show_progress))[0])
    differences = np.abs(ours - theirs)
    normalized = np.abs(np.array(sigmoid(ours.tolist())) - sigmoid(theirs.tolist()))
    in_order = together = best = several = start = 0
    for texts in passages.values():
        end = start + len(dict.fromkeys(texts))
        one, two = ours[start:end], theirs[start:end]
        if end - start > 1:
            above, beside = np.triu_indices(end - start, 1)
            in_order += int((np.sign(one[above] - one[beside]) == np.sign(two[above] - two[beside])).sum())
            together += len(above)
            best += int(one.argmax() == two.argmax())
            several += 1
        start = end
    return RerankerDrift(
        queries=len(passages),
        pairs=len(pairs),
        difference_max=float(differences.max()),
        difference_mean=float(differences.mean()),
        normalized_difference_max=float(normalized.max()),
        worst_pair=pairs[int(differences.argmax())],
        same_order=in_order / together if together else None,
        same_best=best / several if several else None,
    )


def published_reranker_values() -> dict[str, Any]:
    """Return the contents of `data/published_reranker.json`: texts and scores, by page."""
    path = files("trivec").joinpath("data", "published_reranker.json")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def compare_reranker_with_published(reranker: M3Reranker, published: dict[str, Any] | None = None) -> list[Comparison]:
    """Score the published pairs and return every published score with the reranker's.

    Args:
        reranker: The reranker.
        published: Values in the form of `published_reranker_values`, which they are if None.
    """
    published = published_reranker_values() if published is None else published
    tolerances = RERANKER_TOLERANCES[reranker.precision]
    milvus, flag = published["milvus_docs_bge_reranker_page"], published["flagembedding_bge_reranker_page"]
    lengths = {"max_length": milvus["max_length"], "query_max_length": milvus["query_max_length"]}
    pairs = [(milvus["query"], document) for document in milvus["documents"]]
    computed = reranker.compute_score(pairs, normalize=True, show_progress=False, **lengths)
    compared = [
        Comparison(f"documents[{i}]", value, score, tolerances.milvus_page)
        for i, (value, score) in enumerate(zip(milvus["normalized"], computed, strict=True))
    ]
    pairs = [(query, passage) for query, passage in flag["pairs"]]
    for name, tolerance in (
        ("scores", tolerances.flagembedding_page),
        ("normalized", tolerances.flagembedding_normalized),
    ):
        found = reranker.compute_score(pairs, normalize=name == "normalized", show_progress=False)
        compared += [
            Comparison(f"{name} of {query!r} with {passage!r:.30}", value, score, tolerance)
            for (query, passage), value, score in zip(pairs, flag[name], found, strict=True)
        ]
    return compared
