"""The differentiable scores against the definitions written out, and their gradients against autograd's."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'trivec[train]'")

from trivec.training import scores  # noqa: E402
from trivec.training.scores import lexical_scores, maxsim_scores  # noqa: E402


def random_texts(seed: int, texts: int, length: int, dim: int = 6):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(texts, length, dim, generator=generator), dim=-1)
    lengths = torch.randint(1, length + 1, (texts,), generator=generator)
    return vectors, (torch.arange(length)[None] < lengths[:, None]).long()


def plain_maxsim(queries, query_mask, passages, passage_mask):
    similarity = torch.einsum("qid,pjd->qipj", queries, passages)
    similarity = similarity.masked_fill(passage_mask[None, None] == 0, float("-inf")).amax(-1)
    return (similarity * query_mask[:, :, None]).sum(1) / query_mask.sum(1)[:, None]


@pytest.mark.parametrize("block", [1, 10**9])
def test_maxsim_and_its_gradients_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, block: int):
    monkeypatch.setattr(scores, "MAXSIM_BLOCK_ELEMENTS", block)
    (queries, query_mask), (passages, passage_mask) = random_texts(0, 5, 4), random_texts(1, 7, 9)
    upstream = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    gradients = []
    for score in (maxsim_scores, plain_maxsim):
        sides = [side.clone().requires_grad_() for side in (queries, passages)]
        value = score(sides[0], query_mask, sides[1], passage_mask)
        (value * upstream).sum().backward()
        gradients.append((value.detach(), sides[0].grad, sides[1].grad))
    for ours, plain in zip(*gradients, strict=True):
        assert torch.allclose(ours, plain, atol=1e-6)


def test_maxsim_of_a_text_does_not_depend_on_its_padding():
    (queries, query_mask), (passages, passage_mask) = random_texts(3, 3, 5), random_texts(4, 4, 6)
    padded = torch.nn.functional.pad(-passages.abs(), (0, 0, 0, 20), value=5.0)  # padding that would win every maximum
    longer = torch.nn.functional.pad(passage_mask, (0, 20))
    assert torch.equal(
        maxsim_scores(queries, query_mask, -passages.abs(), passage_mask),
        maxsim_scores(queries, query_mask, padded, longer),
    )


def test_lexical_scores_multiply_the_largest_weights_of_shared_tokens():
    query_ids, passage_ids = torch.tensor([[5, 6, 5, 0]]), torch.tensor([[6, 5, 7, 6], [8, 9, 7, 0]])
    query_weights = torch.tensor([[0.1, 0.2, 0.4, 0.0]])
    passage_weights = torch.tensor([[0.5, 1.0, 3.0, 0.7], [1.0, 1.0, 1.0, 0.0]])
    found = lexical_scores(query_ids, query_weights, passage_ids, passage_weights, vocab_size=10)
    assert found.tolist() == [[pytest.approx(0.4 * 1.0 + 0.2 * 0.7), 0.0]]


def test_lexical_gradients_go_to_the_largest_occurrence_alone():
    query_ids, passage_ids = torch.tensor([[5, 6, 5]]), torch.tensor([[6, 5, 6]])
    query_weights = torch.tensor([[0.1, 0.2, 0.4]], requires_grad=True)
    passage_weights = torch.tensor([[0.5, 1.0, 0.7]], requires_grad=True)
    lexical_scores(query_ids, query_weights, passage_ids, passage_weights, vocab_size=10).sum().backward()
    assert np.allclose(query_weights.grad, [[0.0, 0.7, 1.0]])
    assert np.allclose(passage_weights.grad, [[0.0, 0.4, 0.2]])


def test_lexical_scores_equal_the_scores_over_the_whole_vocabulary():
    generator = torch.Generator().manual_seed(5)
    query_ids = torch.randint(0, 50, (6, 8), generator=generator)
    passage_ids = torch.randint(0, 50, (9, 30), generator=generator)
    query_weights = torch.rand(6, 8, generator=generator).sub(0.3).relu()
    passage_weights = torch.rand(9, 30, generator=generator).sub(0.3).relu()

    def whole(ids, weights):
        return torch.zeros(len(ids), 50).scatter_reduce(1, ids, weights, "amax")

    expected = whole(query_ids, query_weights) @ whole(passage_ids, passage_weights).T
    found = lexical_scores(query_ids, query_weights, passage_ids, passage_weights, vocab_size=50)
    assert torch.allclose(found, expected, atol=1e-6)
