import numpy as np
import pytest

from trivec.vectors.scoring import colbert_score
from trivec.vectors.token_storage import (
    bytes_per_vector,
    check_form,
    dequantized,
    halved,
    packed,
    quantized,
    unpacked,
    widened,
)

FORMS = ("fp16", "int8")


def unit_vectors(tokens, dim, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((tokens, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_no_element_of_int8_is_further_off_than_half_its_scale():
    vectors = unit_vectors(50, 1024) * np.float32([[3.0 ** (i % 20 - 10)] for i in range(50)])
    numbers, scales = quantized(vectors)
    assert (numbers.dtype, scales.dtype, scales.shape) == (np.int8, np.float32, (50,))
    error = np.abs(dequantized(numbers, scales) - vectors)
    assert (error <= scales[:, None] * 0.5001).all()
    assert (np.abs(numbers).max(axis=1) == 127).all()  # the whole range is used
    assert numbers.min() >= -127


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [0, 1, 7, 200])
@pytest.mark.parametrize("dim", [1, 256, 1024])
def test_bytes_give_the_vectors_back(form, tokens, dim):
    vectors = unit_vectors(tokens, dim)
    data = packed(vectors, form)
    assert len(data) == tokens * bytes_per_vector(form, dim)
    back = unpacked(data, form, dim)
    assert (back.dtype, back.shape) == (np.float32, (tokens, dim))
    expected = halved(vectors).astype(np.float32) if form == "fp16" else dequantized(*quantized(vectors))
    assert np.array_equal(back, expected)


@pytest.mark.parametrize(("form", "most"), [("fp16", 1e-3), ("int8", 1e-2)])
def test_scores_of_stored_vectors_are_those_of_the_model_within_what_is_promised(form, most):
    queries = [unit_vectors(12, 1024, seed) for seed in range(20)]
    documents = [unit_vectors(150, 1024, 100 + seed) for seed in range(20)]
    documents[3][:12] = queries[3]  # scores near 1 too, not only those of chance
    for query, document in zip(queries, documents, strict=True):
        stored = unpacked(packed(document, form), form, 1024)
        assert abs(colbert_score(query, stored) - colbert_score(query, document)) < most


def test_zeros_and_what_is_nearly_zero_stay_finite():
    vectors = np.zeros((3, 8), np.float32)
    vectors[1] = 1e-44  # denormal: it has no finite inverse
    vectors[2, 0] = 1.0
    numbers, scales = quantized(vectors)
    assert scales[0] == scales[1] == 0
    assert np.array_equal(dequantized(numbers, scales)[2], vectors[2])
    assert not dequantized(numbers, scales)[:2].any()


def test_float16_vectors_are_quantized_too():
    vectors = unit_vectors(4, 16)
    assert np.array_equal(quantized(vectors.astype(np.float16))[0], quantized(halved(vectors).astype(np.float32))[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(form, bad):
    vectors = unit_vectors(3, 8)
    vectors[1, 2] = bad
    with pytest.raises(ValueError, match="token vector 1 has the element"):
        packed(vectors, form)


def test_widening_is_exact_for_every_finite_float16():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert np.array_equal(widened(finite), finite.astype(np.float32))
    assert np.array_equal(np.signbit(widened(finite)), np.signbit(finite))
    assert np.array_equal(widened(finite[::2].reshape(-1, 8)), finite[::2].astype(np.float32).reshape(-1, 8))


def test_what_float16_does_not_reach_is_refused():
    with pytest.raises(ValueError, match="element 70000"):
        halved(np.float32([[70_000.0]]))


@pytest.mark.parametrize("form", FORMS)
def test_bytes_of_another_size_are_refused(form):
    with pytest.raises(ValueError, match="no whole number"):
        unpacked(packed(unit_vectors(3, 8), form)[:-1], form, 8)


def test_a_form_that_is_none_is_refused():
    assert check_form("int8") == "int8"
    with pytest.raises(ValueError, match=r"'int4'.*'fp16', 'int8' or None"):
        check_form("int4")
