"""What token vectors at rest cost in quality: bytes a document and nDCG@10, by form and by pooling factor.

    python benchmarks/token_quality.py held-out/xquad-{en,de,es,zh,ar,hi,ru,th,tr,vi} [--model nano] [--markdown FILE]

`multi-vector` and `all` over every document of small data sets (`recipes/nano/held_out.py` writes nano's), as `trivec
eval` computes them; mean over the data sets. Bytes are those of the vectors themselves. "neighbours" is what trivec
does not do: vectors that follow each other in the text become one, instead of those that lie together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from trivec import M3Model
from trivec.evaluation import load_datasets
from trivec.search.maxsim import QueryTokens
from trivec.search.ndcg import ndcg_at_10
from trivec.vectors.pooling import FACTORS, pooled
from trivec.vectors.scoring import weighted_mean
from trivec.vectors.token_storage import packed, unpacked


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    figures: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with M3Model.load(given.model, precision="fp32") as model:
        for path in given.datasets:
            for dataset in load_datasets(path):
                measure(model, dataset, figures)
    lines = ["| stored as | pooled by | bytes a document | multi-vector | all |", "| --- | ---: | ---: | ---: | ---: |"]
    for (form, factor), found in figures.items():
        size, multi, fused = np.mean(found, axis=0)
        lines.append(f"| {form} | {factor} | {size:,.0f} | {100 * multi:.1f} | {100 * fused:.1f} |")
    print("\n".join(lines))
    if given.markdown is not None:
        given.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(model: M3Model, dataset: object, figures: dict[tuple[str, int], list[tuple[float, float, float]]]) -> None:
    """Add one data set's figures to those of every form and factor."""
    queries, documents = list(dataset.queries), list(dataset.documents)
    asked = model.encode([dataset.queries[each] for each in queries], return_colbert_vecs=True, show_progress=False)
    held = model.encode([dataset.documents[each] for each in documents], return_colbert_vecs=True, show_progress=False)
    right = np.array([[dataset.qrels[query].get(each, 0) > 0 for each in documents] for query in queries])
    tokens = QueryTokens(asked.colbert_vecs)
    everyone = np.arange(len(queries))
    dense = asked.dense @ held.dense.T
    sparse = (asked.sparse @ held.sparse.T).toarray()
    dim = model.dim["colbert_vecs"]
    for factor in FACTORS[1:]:
        joined = [neighbours(vectors, factor) for vectors in held.colbert_vecs]
        multi = np.stack([tokens.scores(vectors, everyone) for vectors in joined], axis=1)
        fused = weighted_mean((dense, sparse, multi), model.fusion_weights)
        row = float(np.mean([each.nbytes for each in joined])), ndcg_at_10(multi, right), ndcg_at_10(fused, right)
        figures.setdefault(("fp32, neighbours", factor), []).append(row)
    for factor in FACTORS:
        smaller = [pooled(vectors, factor) for vectors in held.colbert_vecs]
        for form in ("fp32", "fp16", "int8"):
            if form == "fp32":
                stored, size = smaller, [vectors.nbytes for vectors in smaller]
            else:
                data = [packed(vectors, form) for vectors in smaller]
                stored, size = [unpacked(each, form, dim) for each in data], [len(each) for each in data]
            multi = np.stack([tokens.scores(vectors, everyone) for vectors in stored], axis=1)
            fused = weighted_mean((dense, sparse, multi), model.fusion_weights)
            row = float(np.mean(size)), ndcg_at_10(multi, right), ndcg_at_10(fused, right)
            figures.setdefault((form, factor), []).append(row)


def neighbours(vectors: np.ndarray, factor: int) -> np.ndarray:
    """Join every `factor` vectors that follow each other, as their mean of length 1."""
    sums = np.add.reduceat(vectors, np.arange(0, len(vectors), factor), axis=0)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
