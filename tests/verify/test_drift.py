"""Measuring how far two loads of a model lie apart."""

import warnings

import numpy as np
import pytest

from random_checkpoint import TINY, write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.encoding import TruncationWarning
from trivec.errors import DeviceError
from trivec.vectors.sparse import SparseMatrix
from trivec.verify import drift
from trivec.verify.drift import SparseDrift, mean_overlap, measure_drift, nearest_neighbours, sparse_drift

TEXTS = [text for language in SENTENCES.values() for text in language]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A model of the same shape and tokenizer with other weights."""
    folder = write_random_checkpoint(tmp_path_factory.mktemp("stranger"), seed=1)
    with M3Model.load(folder, precision="fp32") as model:
        yield model


def directions(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


@pytest.mark.parametrize("block", [2, 4096])
def test_nearest_neighbours_leave_out_the_text_itself(monkeypatch, block):
    monkeypatch.setattr(drift, "_DOCUMENT_BLOCK", block)
    found = nearest_neighbours(directions(0, 10, 30, 70))
    assert found.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]


def test_ten_neighbours_count_and_of_equal_ones_the_first():
    found = nearest_neighbours(directions(*range(0, 60, 5), 0))  # 13 vectors, the last like the first
    assert found.shape == (13, 10)
    assert found[0, :2].tolist() == [12, 1]
    assert found[12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_overlap_counts_neighbours_in_both_whatever_their_order():
    first = np.array([[1, 2], [0, 2], [0, 1]])
    assert mean_overlap(first, first[:, ::-1]) == 1
    assert mean_overlap(first, np.array([[2, 1], [2, 3], [3, 4]])) == 3 / 6
    assert mean_overlap(first[:1, :0], first[:1, :0]) is None


def test_sparse_differences_are_over_tokens_of_either():
    exact = SparseMatrix(np.float32([[1, 0.5, 0, 2], [0, 0, 0, 0]]))
    other = SparseMatrix(np.float32([[0.75, 0, 0.25, 2], [0, 0, 0, 0]]))
    assert sparse_drift(exact, other) == SparseDrift(difference_max=0.5, difference_mean=0.25, unshared=0.5)
    assert sparse_drift(exact[1:], other[1:]) == SparseDrift(0, 0, 0)


def test_a_model_does_not_drift_from_itself(tiny_model):
    found = measure_drift(tiny_model, tiny_model, TEXTS)
    assert found.texts == len(TEXTS)
    assert found.dense.cosine_min == pytest.approx(1, abs=1e-12)
    assert found.dense.neighbours == 10
    assert found.dense.neighbour_overlap == 1
    assert found.sparse == SparseDrift(0, 0, 0)
    assert found.token_vectors.cosine_min == pytest.approx(1, abs=1e-12)
    assert found.token_vectors.maxsim_difference_max == 0


def test_bf16_drifts_a_little(tiny_checkpoint, tiny_model):
    try:
        reduced = M3Model.load(tiny_checkpoint, precision="bf16")
    except DeviceError:
        pytest.skip("needs a processor with AMX or AVX512-BF16")
    with reduced:
        found = measure_drift(tiny_model, reduced, TEXTS)
    dense, tokens = found.dense, found.token_vectors
    assert 0.999 < dense.cosine_min < dense.cosine_p1 < dense.cosine_p5 < dense.cosine_median < 1 - 1e-9
    assert 0.8 < dense.neighbour_overlap <= 1
    assert 0 < found.sparse.difference_mean < found.sparse.difference_max < 0.05
    assert 0.999 < tokens.cosine_min < tokens.cosine_mean < 1 - 1e-9
    assert 0 < tokens.maxsim_difference_mean < tokens.maxsim_difference_max < 0.05


@pytest.mark.parametrize("characters", [1, 500, 100_000])
def test_a_stranger_lies_as_far_off_as_computed_text_by_text(tiny_model, stranger, monkeypatch, characters):
    monkeypatch.setattr(drift, "_TOKEN_VECTOR_CHARACTERS", characters)
    found = measure_drift(tiny_model, stranger, TEXTS)
    ours, theirs = (list(model.encode(TEXTS, return_colbert_vecs=True)) for model in (tiny_model, stranger))

    dense = [float(a.dense @ b.dense) for a, b in zip(ours, theirs, strict=True)]
    assert found.dense.cosine_min == pytest.approx(min(dense), abs=1e-6)
    assert found.dense.cosine_median == pytest.approx(np.median(dense), abs=1e-6)
    assert found.dense.worst_text == np.argmin(dense)
    assert found.dense.cosine_min < 0.5
    assert found.dense.neighbour_overlap < 0.8

    weights = [abs((a.sparse - b.sparse).toarray()).max() for a, b in zip(ours, theirs, strict=True)]
    assert found.sparse.difference_max == pytest.approx(max(weights), abs=1e-6)
    assert found.sparse.unshared > 0.2

    tokens = np.concatenate([(a.colbert_vecs * b.colbert_vecs).sum(axis=1) for a, b in zip(ours, theirs, strict=True)])
    assert found.token_vectors.cosine_min == pytest.approx(tokens.min(), abs=1e-5)
    assert found.token_vectors.cosine_mean == pytest.approx(tokens.mean(), abs=1e-5)
    assert found.token_vectors.cosine_mean < 0.5
    differences = []
    for i in range(len(TEXTS)):
        j = max((j for j in range(len(TEXTS)) if j != i), key=lambda j: float(ours[i].dense @ ours[j].dense))
        scores = [M3Model.colbert_score(all_[i].colbert_vecs, all_[j].colbert_vecs) for all_ in (ours, theirs)]
        differences.append(abs(scores[0] - scores[1]))
    assert found.token_vectors.maxsim_difference_max == pytest.approx(max(differences), abs=1e-5)
    assert found.token_vectors.maxsim_difference_mean == pytest.approx(np.mean(differences), abs=1e-5)
    assert found.token_vectors.maxsim_difference_max > 0.02


def test_heads_that_are_not_there_are_left_out(tmp_path):
    with M3Model.load(write_random_checkpoint(tmp_path, heads=()), precision="fp32") as model:
        found = measure_drift(model, model, TEXTS[:3])
    assert (found.sparse, found.token_vectors) == (None, None)
    assert (found.dense.neighbours, found.dense.neighbour_overlap) == (2, 1)


def test_one_text_has_no_neighbours(tiny_model, stranger):
    found = measure_drift(tiny_model, stranger, TEXTS[:1])
    assert (found.dense.neighbours, found.dense.neighbour_overlap) == (0, None)
    assert found.dense.cosine_min == found.dense.cosine_median < 0.9
    assert found.token_vectors.cosine_mean < 0.9
    assert found.token_vectors.maxsim_difference_max is None
    assert found.token_vectors.maxsim_difference_mean is None


def test_a_repeated_text_counts_once_and_the_worst_keeps_its_place(tiny_model, stranger):
    once = measure_drift(tiny_model, stranger, TEXTS)
    thrice = measure_drift(tiny_model, stranger, iter([TEXTS[0]] * 3 + TEXTS))
    assert thrice.texts == len(TEXTS)
    assert thrice.dense.worst_text == (once.dense.worst_text + 3 if once.dense.worst_text else 0)
    assert thrice.dense.neighbour_overlap == once.dense.neighbour_overlap


def test_long_texts_are_told_once(tiny_model, stranger):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        measure_drift(tiny_model, stranger, [*TEXTS[:2], " ".join(TEXTS * 5)])
    assert [(each.category, each.message.truncated) for each in told] == [(TruncationWarning, 1)]


def test_wrong_input_is_named(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="no texts to compare"):
        measure_drift(tiny_model, tiny_model, [])
    with pytest.raises(TypeError, match="bare str"):
        measure_drift(tiny_model, tiny_model, "a text")
    with pytest.raises(TypeError, match=r"texts\[1\] is None"):
        measure_drift(tiny_model, tiny_model, ["a", None])
    smaller = type(TINY)(**(vars(TINY) | {"hidden_size": 16}))
    with (
        M3Model.load(write_random_checkpoint(tmp_path, smaller), precision="fp32") as other,
        pytest.raises(ValueError, match=r"differ in size: .*'dense': 32.*'dense': 16"),
    ):
        measure_drift(tiny_model, other, TEXTS)
