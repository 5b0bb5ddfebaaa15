"""How notebooks use FlagEmbedding's class: each runs with FlagEmbedding's and with trivec's, only the import changed.

A pattern takes what the import gives and a model's folder, and returns what the notebook would print.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

QUERIES = ["What is BGE M3?", "Definition of BM25"]
PASSAGES = [
    "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
    "BM25 is a bag-of-words retrieval function that ranks a set of documents based on the query terms in each document",
]

Pattern = Callable[[Any, Path], Any]


def dense_similarity(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False)
    queries = model.encode(QUERIES, batch_size=12, max_length=512)["dense_vecs"]
    passages = model.encode(PASSAGES)["dense_vecs"]
    return queries @ passages.T


def lexical_weights_with_names(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False)
    output = model.encode(QUERIES, return_dense=True, return_sparse=True, return_colbert_vecs=False)
    return model.convert_id_to_token(output["lexical_weights"])


def lexical_matching(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False)
    one = model.encode(QUERIES, return_sparse=True)["lexical_weights"]
    two = model.encode(PASSAGES, return_sparse=True)["lexical_weights"]
    return [
        model.compute_lexical_matching_score(one[0], two[0]),
        model.compute_lexical_matching_score(one[0], one[1]),
        np.asarray(model.compute_lexical_matching_score(one, two)).tolist(),
    ]


def multi_vector(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False)
    one = model.encode(QUERIES, return_dense=True, return_sparse=True, return_colbert_vecs=True)
    two = model.encode(PASSAGES, return_dense=True, return_sparse=True, return_colbert_vecs=True)
    return [model.colbert_score(one["colbert_vecs"][0], vectors).item() for vectors in two["colbert_vecs"]]


def scores_of_pairs(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False)
    pairs = [[query, passage] for query in QUERIES for passage in PASSAGES]
    # A pair a batch, as in a padded batch FlagEmbedding lets padding take part in MaxSim.
    return model.compute_score(pairs, batch_size=1, max_passage_length=128, weights_for_different_modes=[0.4, 0.2, 0.4])


def score_of_one_pair(flag_model: Any, folder: Path) -> Any:
    return flag_model(str(folder), use_fp16=False).compute_score((QUERIES[0], PASSAGES[0]))


def queries_with_an_instruction(flag_model: Any, folder: Path) -> Any:
    model = flag_model(
        str(folder),
        use_fp16=False,
        query_instruction_for_retrieval="Represent this query: ",
        query_instruction_format="{}{}",
        query_max_length=32,
        passage_max_length=128,
        devices="cpu",
    )
    queries, passages = model.encode_queries(QUERIES), model.encode_corpus(PASSAGES)
    model.stop_self_pool()
    return queries["dense_vecs"] @ passages["dense_vecs"].T


def a_single_text(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False, return_sparse=True, return_colbert_vecs=True)
    found = model.encode(QUERIES[0])
    weights = {token: float(weight) for token, weight in found["lexical_weights"].items()}
    return [found["dense_vecs"], weights, found["colbert_vecs"], model.convert_id_to_token(found["lexical_weights"])]


def with_the_tokenizer(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False)
    weights = model.encode(QUERIES[0], return_sparse=True)["lexical_weights"]
    heaviest = sorted(weights.items(), key=lambda pair: -pair[1])[:3]
    ids = model.tokenizer(QUERIES[0])["input_ids"]
    return [
        [model.tokenizer.decode([int(token)]) for token, _ in heaviest],
        model.tokenizer.convert_ids_to_tokens(ids),
        model.tokenizer.decode(ids, skip_special_tokens=True),
    ]


def shorter_vectors(flag_model: Any, folder: Path) -> Any:
    model = flag_model(str(folder), use_fp16=False, truncate_dim=8, return_colbert_vecs=True)
    found = model.encode(PASSAGES)
    return [found["dense_vecs"], *found["colbert_vecs"], found["lexical_weights"]]


PATTERNS: dict[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (
        dense_similarity,
        lexical_weights_with_names,
        lexical_matching,
        multi_vector,
        scores_of_pairs,
        score_of_one_pair,
        queries_with_an_instruction,
        a_single_text,
        with_the_tokenizer,
        shorter_vectors,
    )
}
