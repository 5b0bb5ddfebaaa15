"""What a notebook shows of a search on Milvus Lite."""

from __future__ import annotations

import pytest

from parsed_page import parsed
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.milvus import M3Collection

TEXTS = [text for language in SENTENCES.values() for text in language]


@pytest.fixture(scope="module")
def filled(tiny_model: M3Model, tmp_path_factory):
    with M3Collection("filled", tiny_model, uri=tmp_path_factory.mktemp("lite") / "filled.db") as opened:
        opened.add(
            [{"id": f"t{i}", "text": text, "metadata": {"n": i}} for i, text in enumerate(TEXTS)], show_progress=False
        )
        yield opened


def test_a_query_has_a_table_with_its_words_marked(filled):
    hits = filled.search(TEXTS[0], limit=3, rerank="colbert", matched_words=True)
    page = parsed(hits._repr_html_())
    header, *rows = page.all("tr")
    assert [one.text for one in header.all("th")] == [
        "rank", "score", "dense", "sparse", "colbert", "text", "id", "metadata",
    ]  # fmt: skip
    for rank, (row, hit) in enumerate(zip(rows, hits, strict=True), start=1):
        cells = [one.text for one in row.all("td")]
        scores = (hit.score, hit.dense_score, hit.sparse_score, hit.colbert_score)
        assert cells == [str(rank), *(f"{score:.4f}" for score in scores), hit.text, hit.id, f"n: {hit.metadata['n']}"]
    assert rows[0].all("mark")
    assert parsed(hits[0]._repr_html_()).all("tr")[1].text == rows[0].text


def test_it_stays_a_list_of_hits_and_several_queries_have_one_each(filled):
    hits = filled.search(TEXTS[0], "dense", limit=2)
    assert isinstance(hits, list)
    assert repr(hits) == repr(list(hits))
    several = filled.search(TEXTS[:2], "dense", limit=2)
    assert type(several) is list
    assert several[0] == hits
    assert len(parsed(several[1]._repr_html_()).all("tr")) == 3
    assert filled.search(TEXTS[0], filter="n < 0")._repr_html_() == "<p>No hits.</p>"
