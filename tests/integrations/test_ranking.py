"""Documents in the order in which they answer a query."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from serving import serving
from trivec import M3Model, M3Reranker
from trivec.integrations.ranking import ranking

DOCUMENTS = ["The old bridge.", "A boat on the lake.", "", "A boat crossed the lake, and nobody was in it."]
QUERY = "Who crossed the lake?"


def test_by_token_vectors(tiny_model: M3Model):
    scores = tiny_model.compute_score([(QUERY, text) for text in DOCUMENTS])["colbert"]
    ranks = ranking(tiny_model, "colbert")
    for found in (ranks.rank(QUERY, DOCUMENTS), asyncio.run(ranks.arank(QUERY, DOCUMENTS))):
        assert [i for i, _ in found] == np.argsort(-np.array(scores), kind="stable").tolist()
        assert np.allclose([score for _, score in found], [scores[i] for i, _ in found], atol=1e-5)
    assert [i for i, _ in ranks.rank(QUERY, DOCUMENTS, 2)] == [i for i, _ in found[:2]]
    assert ranks.rank(QUERY, []) == asyncio.run(ranks.arank(QUERY, [])) == []


def test_by_a_cross_encoder(tiny_reranker: M3Reranker, tiny_reranker_checkpoint: Path, tiny_model: M3Model):
    wanted = [(one.index, one.score) for one in tiny_reranker.rank(QUERY, DOCUMENTS, normalize=True)]
    for ranks in (
        ranking(tiny_reranker, "cross-encoder"),
        ranking(tiny_reranker_checkpoint, "cross-encoder", precision="fp32"),
    ):
        assert np.allclose(ranks.rank(QUERY, DOCUMENTS), wanted, atol=1e-5)
        assert np.allclose(asyncio.run(ranks.arank(QUERY, DOCUMENTS, 2)), wanted[:2], atol=1e-5)
        assert ranks.rank(QUERY, []) == []
    with pytest.raises(ValueError, match="gives vectors"):
        ranking(tiny_model, "cross-encoder")
    with pytest.raises(ValueError, match="mode='colbert'"):
        ranking(tiny_reranker, "colbert")
    options = ("--precision", "fp32", "--reranker", str(tiny_reranker_checkpoint))
    with serving("nano", *options) as server:
        ranks = ranking(server.url, "cross-encoder")
        assert np.allclose(ranks.rank(QUERY, DOCUMENTS), wanted, atol=1e-5)
        assert np.allclose(asyncio.run(ranks.arank(QUERY, DOCUMENTS, 2)), wanted[:2], atol=1e-5)


@pytest.mark.usefixtures("cache_folder")
def test_by_a_server_in_several_requests():
    options = ("--precision", "fp32", "--max-texts", "3")
    with serving("nano", *options) as server, M3Model.load("nano", precision="fp32") as model:
        scores = model.compute_score([(QUERY, text) for text in DOCUMENTS])["colbert"]
        ranks = ranking(server.url, "colbert")
        for found in (ranks.rank(QUERY, DOCUMENTS), asyncio.run(ranks.arank(QUERY, DOCUMENTS))):
            assert [i for i, _ in found] == np.argsort(-np.array(scores), kind="stable").tolist()
            assert np.allclose([score for _, score in found], [scores[i] for i, _ in found], atol=1e-5)
        assert ranks.rank(QUERY, []) == asyncio.run(ranks.arank(QUERY, [])) == []
