"""How far two loads of one checkpoint, one of them exact, lie apart on given texts.

Sets every vector of a model in reduced precision beside that of the model in "fp32", and what is made of the vectors
beside each other too: nearest neighbours and MaxSim. Knows nothing of files or printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from trivec.model import M3Model, encode_without_warning
from trivec.search.exact import EncodedBlock, Float32, Rows, exact_search
from trivec.support.arguments import checked_texts
from trivec.support.progress import progress_bar
from trivec.vectors.embeddings import asked_for
from trivec.vectors.scoring import colbert_score
from trivec.vectors.sparse import SparseMatrix

_NEIGHBOURS = 10
_DOCUMENT_BLOCK = 4096  # texts compared at once with a block of texts: 16 MB of scores
# Characters of texts and their neighbours whose token vectors are held at once: at full size 100 MB for each model
# where a token has four characters, 400 MB where it has one.
_TOKEN_VECTOR_CHARACTERS = 100_000


@dataclass(frozen=True)
class DenseDrift:
    """Of the dense vectors.

    Attributes:
        cosine_min: The smallest cosine between a text's two vectors.
        cosine_p1: 1st percentile of these cosines, interpolated between texts.
        cosine_p5: 5th percentile.
        cosine_median: Median.
        worst_text: Index of the text with the smallest cosine.
        neighbours: How many neighbours of a text count: 10, or all others where there are fewer.
        neighbour_overlap: Share of a text's nearest neighbours (the other texts of largest dense cosine) that are
            nearest neighbours in both models; the mean over the texts. None for a single text.
    """

    cosine_min: float
    cosine_p1: float
    cosine_p5: float
    cosine_median: float
    worst_text: int
    neighbours: int
    neighbour_overlap: float | None


@dataclass(frozen=True)
class SparseDrift:
    """Of the lexical weights; they are compared for every (text, token) that has a weight in either model.

    Attributes:
        difference_max: Largest absolute difference of two weights; a missing one is 0.
        difference_mean: Mean absolute difference.
        unshared: Share of these (text, token) that have a weight in one model only.
    """

    difference_max: float
    difference_mean: float
    unshared: float


@dataclass(frozen=True)
class TokenVectorDrift:
    """Of the token vectors.

    Attributes:
        cosine_min: The smallest cosine between a token's two vectors.
        cosine_mean: Mean of these cosines over all tokens of all texts.
        maxsim_difference_max: MaxSim of each text, as the query, with its nearest neighbour in the exact model: the
            largest absolute difference between the models. None for a single text.
        maxsim_difference_mean: The mean absolute difference.
    """

    cosine_min: float
    cosine_mean: float
    maxsim_difference_max: float | None
    maxsim_difference_mean: float | None


@dataclass(frozen=True)
class Drift:
    """What `measure_drift` finds; None for a head that the checkpoint lacks.

    Attributes:
        texts: Distinct texts compared.
        dense: Of the dense vectors.
        sparse: Of the lexical weights.
        token_vectors: Of the token vectors.
    """

    texts: int
    dense: DenseDrift
    sparse: SparseDrift | None
    token_vectors: TokenVectorDrift | None


def measure_drift(exact: M3Model, other: M3Model, texts: Iterable[str], *, show_progress: bool = True) -> Drift:
    """Compare the vectors of two loads of one checkpoint on some texts, every one of them.

    Both models are in memory, and the dense and sparse vectors of all texts (6 KB a text and model at full size, for
    texts of 250 tokens). Token vectors are computed in a second pass and held for some texts at a time, so every text
    is encoded at least twice. Neighbours are found by comparing every text with every other.

    Args:
        exact: The checkpoint in "fp32".
        other: The same checkpoint in another precision.
        texts: The texts. A repeated one counts once: which of its copies is nearer would be chance.
        show_progress: Show bars once the work has gone on for 5 seconds.

    Raises:
        TypeError: `texts` is a bare str, or holds something that is not a str.
        ValueError: There is no text, or the models' vectors are of different sizes.
    """
    if exact.dim != other.dim:
        raise ValueError(f"the models' vectors differ in size: {exact.dim} and {other.dim}")
    first_place: dict[str, int] = {}
    for place, text in enumerate(checked_texts(texts)):
        first_place.setdefault(text, place)
    distinct = list(first_place)
    if not distinct:
        raise ValueError("no texts to compare the models on: pass at least one")
    has_sparse = exact.has_sparse and other.has_sparse
    ours = exact.encode(distinct, return_sparse=has_sparse, show_progress=show_progress)
    # Of the same texts: the line above has warned.
    theirs = encode_without_warning(other, distinct, return_sparse=has_sparse, show_progress=show_progress)
    neighbours = nearest_neighbours(asked_for(ours.dense))
    cosines = _cosines(asked_for(ours.dense), asked_for(theirs.dense))
    low, p1, p5, median = np.percentile(cosines, [0, 1, 5, 50]).tolist()
    dense = DenseDrift(
        cosine_min=low,
        cosine_p1=p1,
        cosine_p5=p5,
        cosine_median=median,
        worst_text=first_place[distinct[int(cosines.argmin())]],
        neighbours=neighbours.shape[1],
        neighbour_overlap=mean_overlap(neighbours, nearest_neighbours(asked_for(theirs.dense))),
    )
    sparse = sparse_drift(asked_for(ours.sparse), asked_for(theirs.sparse)) if has_sparse else None
    token_vectors = None
    if exact.has_colbert and other.has_colbert:
        nearest = neighbours[:, 0] if len(distinct) > 1 else None
        token_vectors = _token_vector_drift(exact, other, distinct, nearest, show_progress)
    return Drift(len(distinct), dense, sparse, token_vectors)


def nearest_neighbours(dense: Float32) -> Rows:
    """Find the nearest neighbours of each vector among the others, the nearest first; of equal ones the lower row.

    Args:
        dense: (n, dim) float32, unit rows.

    Returns:
        (n, k) row numbers, where k is 10, or n - 1 if that is less.
    """
    n = len(dense)
    k = min(_NEIGHBOURS, n - 1)
    if k == 0:
        return np.empty((n, 0), np.intp)
    starts = range(0, n, _DOCUMENT_BLOCK)
    blocks = (EncodedBlock(start, dense[start : start + _DOCUMENT_BLOCK], None) for start in starts)
    found = asked_for(exact_search(EncodedBlock(0, dense, None), blocks, k, excluded=np.arange(n)).dense)
    return found.document.reshape(n, k)


def mean_overlap(first: Rows, second: Rows) -> float | None:
    """Share of the row numbers in a row of `first` that are in that row of `second` too, the mean over the rows.

    Args:
        first: (n, k) row numbers, distinct within a row.
        second: The same.

    Returns:
        0 to 1; None where k is 0.
    """
    if first.size == 0:
        return None
    shared: int = sum(len(np.intersect1d(one, two, assume_unique=True)) for one, two in zip(first, second, strict=True))
    return shared / first.size


def sparse_drift(exact: SparseMatrix, other: SparseMatrix) -> SparseDrift:
    """Compare lexical weights, each n x vocabulary."""
    shared = exact.astype(bool).multiply(other.astype(bool)).nnz
    either = max(exact.nnz + other.nnz - shared, 1)  # without any weight there is no drift, rather than 0 / 0
    differences = np.abs((exact - other).data)
    return SparseDrift(
        difference_max=float(differences.max(initial=0)),
        difference_mean=float(differences.sum(dtype=np.float64)) / either,
        unshared=(exact.nnz + other.nnz - 2 * shared) / either,
    )


def _cosines(first: Float32, second: Float32) -> npt.NDArray[np.float64]:
    """Cosine of each row of (n, dim) with the same row of another; summed in float64, as it lies near 1."""

    def products(a: Float32, b: Float32) -> npt.NDArray[np.float64]:
        inner: npt.NDArray[np.float64] = np.einsum("nd,nd->n", a, b, dtype=np.float64)
        return inner

    cosines: npt.NDArray[np.float64] = products(first, second) / np.sqrt(
        products(first, first) * products(second, second)
    )
    return cosines


def _token_vector_drift(
    exact: M3Model, other: M3Model, texts: list[str], nearest: Rows | None, show_progress: bool
) -> TokenVectorDrift:
    lowest, total, tokens = 1.0, 0.0, 0
    maxsim_differences: list[float] = []
    with progress_bar(len(texts), "Comparing token vectors", "texts", show_progress) as progress:
        for block in _blocks(texts, nearest):
            held = block if nearest is None else np.union1d(block, nearest[block])
            ours, theirs = (_token_vectors(model, [texts[row] for row in held]) for model in (exact, other))
            for i in np.searchsorted(held, block):
                cosines = _cosines(ours[i], theirs[i])
                lowest = min(lowest, float(cosines.min()))
                total += float(cosines.sum())
                tokens += len(cosines)
                if nearest is not None:
                    j = np.searchsorted(held, nearest[held[i]])
                    difference = colbert_score(ours[i], ours[j]) - colbert_score(theirs[i], theirs[j])
                    maxsim_differences.append(abs(difference))
            progress.update(len(block))
    return TokenVectorDrift(
        cosine_min=lowest,
        cosine_mean=total / tokens,
        maxsim_difference_max=max(maxsim_differences) if maxsim_differences else None,
        maxsim_difference_mean=float(np.mean(maxsim_differences)) if maxsim_differences else None,
    )


def _token_vectors(model: M3Model, texts: list[str]) -> list[Float32]:
    encoded = encode_without_warning(
        model, texts, return_dense=False, return_sparse=False, return_colbert_vecs=True, show_progress=False
    )
    return asked_for(encoded.colbert_vecs)


def _blocks(texts: list[str], nearest: Rows | None) -> Iterator[Rows]:
    """Yield sorted row numbers, each once, of texts that with their neighbours are not too long to be held at once."""
    rows = np.arange(len(texts))
    if nearest is not None:
        # Texts that are chained by being neighbours come together, so that few are encoded for a second block.
        links = csr_array((np.ones(len(texts), bool), (rows, nearest)), shape=(len(texts), len(texts)))
        rows = np.argsort(connected_components(links, directed=False)[1], kind="stable")
    start = characters = 0
    for end, row in enumerate(rows):
        more = len(texts[row]) + (0 if nearest is None else len(texts[nearest[row]]))
        if end > start and characters + more > _TOKEN_VECTOR_CHARACTERS:
            yield np.sort(rows[start:end])
            start, characters = end, 0
        characters += more
    yield np.sort(rows[start:])
