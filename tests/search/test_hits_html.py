"""What notebooks show of a search's hits."""

from __future__ import annotations

import pickle

from parsed_page import parsed
from trivec.search.hits import Hit, Hits

RIVER = Hit(
    "de-1",
    "Berlin liegt an der Spree. BERLIN!",
    0.75,
    {"lang": "de", "year": 1237},
    dense_score=0.5,
    sparse_score=1.25,
    matched_words=(("berlin", 1.0), ("spree", 0.25)),
)
OTHER = Hit("en-2", "The Eberlin brothers.", 0.5, {}, dense_score=0.5, matched_words=(("berlin", 0.1),))


def cells(hits: Hits) -> list[list[str]]:
    return [
        [one.text for one in row.elements if one.name in ("th", "td")] for row in parsed(hits._repr_html_()).all("tr")
    ]


def test_a_row_has_the_ranks_scores_text_id_and_metadata_of_a_hit() -> None:
    assert cells(Hits([RIVER, OTHER])) == [
        ["rank", "score", "dense", "sparse", "text", "id", "metadata"],
        ["1", "0.7500", "0.5000", "1.2500", RIVER.text, "de-1", "lang: de\nyear: 1237"],
        ["2", "0.5000", "0.5000", "", OTHER.text, "en-2", ""],
    ]


def test_matched_words_are_marked_in_any_case_but_not_within_others() -> None:
    page = parsed(Hits([RIVER, OTHER])._repr_html_())
    assert [one.text for one in page.all("mark")] == ["Berlin", "Spree", "BERLIN"]
    thai = Hit("th", "เมืองหลวงคือกรุงเทพ", 1.0, {}, matched_words=(("กรุงเทพ", 1.0), ("\u2581", 0.1)))
    assert [one.text for one in parsed(thai._repr_html_()).all("mark")] == ["กรุงเทพ"]
    hindi = Hit("hi", "हिंदी दी", 1.0, {}, matched_words=(("दी", 1.0),))
    assert [one.text for one in parsed(hindi._repr_html_()).all("mark")] == ["दी"]
    longest = Hit("en", "sunflower (sun)", 1.0, {}, matched_words=(("sun", 1.0), ("sunflower", 0.5), ("(", 0.1)))
    assert [one.text for one in parsed(longest._repr_html_()).all("mark")] == ["sunflower", "(", "sun"]


def test_texts_are_text_and_long_ones_are_cut() -> None:
    hostile = "<script>alert(1)</script>\u202e"
    hit = Hit(hostile, hostile + "x" * 1_000_000, 1.0, {hostile: hostile}, matched_words=(("script", 1.0),))
    text = hit._repr_html_()
    page = parsed(text)
    assert not page.all("script")
    assert [one.text for one in page.all("mark")] == ["script", "script"]
    assert "<script>alert(1)</script>\ufffdxxx" in page.text
    assert f"… ({1_000_026 - 500:,} more characters)" in page.text
    assert "\u202e" not in text
    assert len(text) < 3000


def test_many_hits_are_counted_and_none_is_said() -> None:
    page = parsed(Hits([RIVER] * 130)._repr_html_())
    assert len(page.all("tr")) == 101
    assert "30 more hits" in page.text
    assert Hits()._repr_html_() == "<p>No hits.</p>"


def test_documents_say_how_many_chunks_were_found() -> None:
    found = cells(Hits([Hit("a", "text", 1.0, {}, chunks=(RIVER, OTHER)), Hit("b", "text", 0.5, {})]))
    assert [row[2] for row in found] == ["chunks", "2", "0"]


def test_hits_are_a_list_and_print_as_one() -> None:
    hits = Hits([RIVER, OTHER])
    assert isinstance(hits, list)
    assert hits == [RIVER, OTHER]
    assert repr(hits) == repr([RIVER, OTHER])
    assert pickle.loads(pickle.dumps(hits)) == hits
