"""`rerank="cross-encoder"`, from the library and from the shell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sample_texts import SENTENCES
from trivec import M3Model, M3Reranker
from trivec.milvus import M3Collection

TEXTS = [text for language in SENTENCES.values() for text in language]
QUERY = "Which bridge was built first?"


@pytest.fixture(scope="module")
def filled(tiny_model: M3Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[M3Collection]:
    with M3Collection("filled", tiny_model, uri=tmp_path_factory.mktemp("lite") / "filled.db") as opened:
        opened.add(({"id": str(i), "text": text} for i, text in enumerate(TEXTS)), show_progress=False)
        yield opened


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_the_best_candidates_are_ordered_by_the_reranker(
    filled: M3Collection, tiny_reranker: M3Reranker, mode: str
) -> None:
    candidates = filled.search(QUERY, mode, limit=9)
    ranked = tiny_reranker.rank(QUERY, [hit.text for hit in candidates], 3, normalize=True)
    hits = filled.search(QUERY, mode, limit=3, rerank="cross-encoder", reranker=tiny_reranker)
    assert [hit.text for hit in hits] == [found.text for found in ranked]
    assert [hit.score for hit in hits] == pytest.approx([found.score for found in ranked], abs=1e-6)
    assert [hit.cross_encoder_score for hit in hits] == [hit.score for hit in hits]
    assert all((hit.dense_score is None) == (mode == "sparse") for hit in hits)
    assert candidates[0].cross_encoder_score is None


def test_several_queries(filled: M3Collection, tiny_reranker: M3Reranker) -> None:
    queries = [QUERY, "a boat"]
    together = filled.search(queries, limit=2, offset=1, candidates=6, rerank="cross-encoder", reranker=tiny_reranker)
    for query, hits in zip(queries, together, strict=True):
        alone = filled.search(query, limit=2, offset=1, candidates=6, rerank="cross-encoder", reranker=tiny_reranker)
        assert [hit.id for hit in alone] == [hit.id for hit in hits]
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_reranker_and_rerank_go_together(filled: M3Collection, tiny_reranker: M3Reranker) -> None:
    with pytest.raises(ValueError, match="go together"):
        filled.search(QUERY, rerank="cross-encoder")
    for rerank in (None, "colbert"):
        with pytest.raises(ValueError, match="go together"):
            filled.search(QUERY, rerank=rerank, reranker=tiny_reranker)
    with pytest.raises(ValueError, match="'colbert', 'cross-encoder' or None"):
        filled.search(QUERY, rerank="bert")
