"""Fewer token vectors a document: those that lie close together become one, their mean.

Hierarchical pooling as Clavié, Chaffin and Adams describe it for ColBERT (arXiv 2409.14683): Ward's clustering of a
document's token vectors, cut where one vector in `factor` is left. Queries are never pooled. Knows nothing of stores.
"""

from __future__ import annotations

import numpy as np

from trivec.vectors.embeddings import FloatArray

FACTORS = (1, 2, 3, 4)

# Vectors clustered at once; a longer document is pooled piece by piece, as distances take the square of it.
_AT_ONCE = 1_024


def pooled(vectors: FloatArray, factor: int) -> FloatArray:
    """Pool the token vectors of one document.

    Args:
        vectors: (t, dim) float32 of length 1, in the order of the text.
        factor: 1 leaves them as they are; 2 leaves half of them, rounded up.

    Returns:
        (ceil(t / factor), dim) float32 of length 1, in the order of each cluster's first token.
    """
    if factor == 1 or len(vectors) < 2:
        return vectors
    parts = [_of_one_piece(vectors[start : start + _AT_ONCE], factor) for start in range(0, len(vectors), _AT_ONCE)]
    return np.concatenate(parts)


def _of_one_piece(vectors: FloatArray, factor: int) -> FloatArray:
    from scipy.cluster.hierarchy import linkage  # takes a fifth of a second to import

    kept = -(-len(vectors) // factor)
    if kept == len(vectors):
        return vectors
    merges = linkage(vectors, "ward")[: len(vectors) - kept, :2].astype(np.intp)
    # Cluster i joined from two others is number t + i; each node takes the name of its last merge, last merges first.
    name = np.arange(len(vectors) + len(merges))
    for joined in range(len(merges) - 1, -1, -1):
        name[merges[joined]] = name[len(vectors) + joined]
    _, first, cluster = np.unique(name[: len(vectors)], return_index=True, return_inverse=True)
    sums = np.zeros((kept, vectors.shape[1]), np.float32)
    np.add.at(sums, np.argsort(np.argsort(first))[cluster], vectors)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    np.divide(sums, lengths, out=sums, where=lengths > 0)
    return sums
