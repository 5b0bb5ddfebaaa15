"""Documents found by their chunks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sample_texts import SENTENCES
from trivec.documents import Document
from trivec.milvus import M3Collection, index_documents

TEXTS = [text for language in SENTENCES.values() for text in language]
QUERY = "Which bridge was built first?"


@pytest.fixture(scope="module")
def chunked(tiny_model, tmp_path_factory) -> Iterator[M3Collection]:
    """Forty documents of which one has sixty chunks, all nearer to the query than the others."""
    with M3Collection("chunked", tiny_model, uri=str(tmp_path_factory.mktemp("lite") / "chunked.db")) as opened:
        documents = [Document("long", f"{QUERY} " * 120, {"lang": "en"})]
        documents += [Document(f"short-{i}", text, {"lang": "xx"}) for i, text in enumerate(TEXTS[:39])]
        index_documents(opened, documents, max_tokens=24, overlap=0)
        yield opened


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_documents_come_once_by_their_best_chunk(chunked, mode):
    chunks = chunked.search(QUERY, mode, limit=200)
    documents = chunked.search(QUERY, mode, limit=8, group="document", matched_words=True)
    best: dict[str, object] = {}
    for chunk in chunks:
        best.setdefault(chunk.metadata["document"], chunk)
    if mode != "hybrid":  # whose scores depend on how deep both rankings go
        assert [hit.id for hit in documents] == list(best)[:8]
        assert [hit.score for hit in documents] == [hit.score for hit in best.values()][:8]
    assert len(documents) == 8
    assert documents[0].id == "long"
    assert documents[0].metadata == {"lang": "en"}
    assert len(documents[0].chunks) > 20
    assert {chunk.metadata["document"] for chunk in documents[0].chunks} == {"long"}
    for hit in documents:
        assert (hit.text, hit.score) == (hit.chunks[0].text, hit.chunks[0].score)
        if hit.sparse_score is not None:
            assert sum(weight for _, weight in hit.matched_words) == pytest.approx(hit.sparse_score, abs=1e-4)


def test_pages_of_documents_follow_each_other(chunked):
    whole = [hit.id for hit in chunked.search(QUERY, "dense", limit=9, group="document")]
    pages = [
        hit.id
        for offset in (0, 3, 6)
        for hit in chunked.search(QUERY, "dense", limit=3, offset=offset, group="document")
    ]
    assert pages == whole


def test_reranked_chunks_make_documents_too(chunked):
    documents = chunked.search(QUERY, limit=5, rerank="colbert", group="document")
    assert len({hit.id for hit in documents}) == 5
    assert [hit.score for hit in documents] == sorted((hit.colbert_score for hit in documents), reverse=True)


def test_what_is_no_chunk_is_a_document(tiny_model, tmp_path):
    with M3Collection("whole", tiny_model, uri=str(tmp_path / "whole.db")) as whole:
        whole.add([Document(str(i), text) for i, text in enumerate(TEXTS[:5])])
        hits = whole.search(QUERY, limit=5)
        documents = whole.search(QUERY, limit=5, group="document")
        assert [hit.id for hit in documents] == [hit.id for hit in hits]
        assert all(hit.chunks == (chunk,) for hit, chunk in zip(documents, hits, strict=True))


def test_another_grouping_is_refused(chunked):
    with pytest.raises(ValueError, match="group is 'chunk': it must be 'document' or None"):
        chunked.search(QUERY, group="chunk")
