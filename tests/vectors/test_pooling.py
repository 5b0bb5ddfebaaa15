import numpy as np
import pytest

from trivec.vectors.pooling import pooled


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_vectors(tokens, dim=32, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((tokens, dim)))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("tokens", [2, 3, 7, 100, 2050])
def test_one_vector_in_factor_is_left_and_has_length_1(factor, tokens):
    smaller = pooled(random_vectors(tokens), factor)
    # A long text is pooled in pieces of 1,024 tokens, each rounded up.
    pieces = [min(1024, tokens - start) for start in range(0, tokens, 1024)]
    assert smaller.shape == (sum(-(-piece // factor) for piece in pieces), 32)
    assert smaller.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(smaller, axis=1), 1, atol=1e-5)


def test_factor_1_and_single_vectors_stay_as_they_are():
    vectors = random_vectors(5)
    assert np.array_equal(pooled(vectors, 1), vectors)
    assert np.array_equal(pooled(vectors[:1], 4), vectors[:1])
    assert pooled(vectors[:0], 2).shape == (0, 32)


def test_what_lies_together_becomes_its_mean_in_the_order_of_the_text():
    near = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    vectors = unit([near[1], near[0], near[1] + [0.1, 0, 0], near[2], near[0] + [0, 0, 0.1], near[2] + [0, 0.1, 0]])
    smaller = pooled(vectors, 2)
    expected = unit([vectors[0] + vectors[2], vectors[1] + vectors[4], vectors[3] + vectors[5]])
    np.testing.assert_allclose(smaller, expected, atol=1e-6)


def test_equal_and_opposite_vectors_give_no_nan():
    same = np.repeat(random_vectors(1), 8, axis=0)
    np.testing.assert_allclose(pooled(same, 4), same[:2], atol=1e-6)
    opposite = np.concatenate([same[:1], -same[:1]])
    assert np.isfinite(pooled(opposite, 2)).all()
