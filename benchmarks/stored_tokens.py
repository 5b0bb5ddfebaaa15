"""What stored token vectors save: reranking from a collection, beside encoding the candidates again.

Two measurements, both on Milvus Lite:

- 30 candidates of 184 tokens at full size (random weights): token vectors read and compared, against encoded again and
  compared. The query's own vectors are there in both.
- Hybrid search over 20,000 documents with the bundled model, alone and with the best 30 reranked from what is stored,
  by turns; the model encodes the query in both. Documents are of `--tokens` tokens on average.

    python benchmarks/stored_tokens.py
    python benchmarks/stored_tokens.py --part collection --form int8 --documents 20000
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import weights
from texts import Texts, _around
from trivec import M3Model
from trivec.milvus import M3Collection, late_interaction
from trivec.search import hybrid

CANDIDATES = 30


def main() -> None:
    """Measure and print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["rerank", "collection"], action="append", help="default: both")
    parser.add_argument("--form", choices=["fp16", "int8"], default="fp16")
    parser.add_argument("--pool", type=int, default=1)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    given = parser.parse_args()
    found: dict[str, object] = {"form": given.form, "pool": given.pool}
    with tempfile.TemporaryDirectory(prefix="trivec-") as folder:
        if "rerank" in (given.part or ["rerank"]):
            found |= rerank(given, Path(folder))
        if "collection" in (given.part or ["collection"]):
            found |= collection(given, Path(folder))
    print(json.dumps(found))


def rerank(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Seconds to rerank 30 candidates, from what is stored and by encoding them again."""
    checkpoint = weights.checkpoint(given)
    with M3Model.load(checkpoint) as model:
        texts = Texts(checkpoint, model.max_length)
        documents, (query,) = texts.paragraphs(CANDIDATES, seed=1), texts.questions(1, seed=1)
        with (
            M3Collection("stored", model, folder / "a.db", token_vectors=given.form, pool=given.pool) as stored,
            M3Collection("plain", model, folder / "a.db") as plain,
        ):
            seconds: dict[str, list[float]] = {"stored": [], "encoded again": []}
            for opened in (stored, plain):
                opened.add(documents, show_progress=False)
            queries = model.encode([query], return_colbert_vecs=True, show_progress=False).colbert_vecs
            (hits,) = ([hit] for hit in stored.search([query], "dense", limit=CANDIDATES))
            scores = {}
            for _ in range(given.rounds):
                for name, opened in (("stored", stored), ("encoded again", plain)):
                    began = time.perf_counter()
                    (best,) = hybrid.reranked(
                        queries, hits, lambda asked, o=opened: late_interaction.token_vectors(o._table, model, asked)
                    )
                    seconds[name].append(time.perf_counter() - began)
                    scores[name] = {hit.id: hit.score for hit in best}
            apart = max(abs(scores["stored"][each] - scores["encoded again"][each]) for each in scores["stored"])
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    ratio = medians["encoded again"] / medians["stored"]
    print(
        f"rerank of {CANDIDATES} candidates, {given.size} size in {model.precision}, {given.form}, pool {given.pool}:"
    )
    for name, median in medians.items():
        print(f"  {name:14} {median * 1e3:9.1f} ms  (best {min(seconds[name]) * 1e3:.1f})")
    print(f"  {ratio:.0f} times as fast; scores {apart:.5f} apart at most")
    return {"rerank_seconds": seconds, "rerank_ratio": ratio, "scores_apart": apart}


def collection(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Milliseconds of a hybrid search over many documents, alone and with its candidates reranked."""
    with M3Model.load("nano") as model:
        texts = Texts(model.checkpoint.folder, model.max_length)
        draw = np.random.default_rng(7)
        documents = [
            {"id": str(i), "text": f"{i}: {texts.of_length(tokens, draw)}"}
            for i, tokens in enumerate(_around(given.tokens, 0.4, given.documents, draw))
        ]
        with M3Collection("nano", model, folder / "b.db", token_vectors=given.form, pool=given.pool) as opened:
            began = time.perf_counter()
            opened.add(documents, show_progress=False)
            print(f"{given.documents:,} documents added in {time.perf_counter() - began:.0f} s", file=sys.stderr)
            ways = {
                "hybrid": {"mode": "hybrid", "candidates": CANDIDATES},
                "hybrid, reranked": {"mode": "hybrid", "candidates": CANDIDATES, "rerank": "colbert"},
                "multi": {"mode": "multi", "candidates": CANDIDATES},
                "all": {"mode": "all", "candidates": CANDIDATES},
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for number, query in enumerate(texts.questions(given.queries + 1, seed=3)):
                for name, how in ways.items():
                    began = time.perf_counter()
                    opened.search(query, limit=10, **how)
                    if number:  # the first builds what Milvus Lite keeps from then on
                        seconds[name].append(time.perf_counter() - began)
    p50 = {name: statistics.median(each) * 1e3 for name, each in seconds.items()}
    ratio = p50["hybrid, reranked"] / p50["hybrid"]
    print(f"search over {given.documents:,} documents of {given.tokens} tokens, nano, Milvus Lite, {given.form}:")
    for name, median in p50.items():
        print(f"  {name:16} p50 {median:8.1f} ms")
    print(f"  hybrid with stored rerank takes {ratio:.2f} times as long as hybrid alone")
    return {"search_p50_ms": p50, "search_ratio": ratio}


if __name__ == "__main__":
    main()
