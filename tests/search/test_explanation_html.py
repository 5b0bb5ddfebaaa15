"""What notebooks show of an explanation."""

from __future__ import annotations

from parsed_page import parsed
from trivec.search.explanation import Explanation, Word


def test_words_are_shaded_by_weight_and_what_follows_the_last_is_cut() -> None:
    text = "Alan Turing <b>\u202e" + "x" * 3000
    explanation = Explanation(
        "Turing?", text, (Word(0, 6, 2.0),), (Word(0, 4, 0.5), Word(5, 11, 1.0)), None, {"dense": 0.5}, True
    )
    page = parsed(explanation._repr_html_())
    assert [one.text for one in page.all("span")] == ["Turing", "Alan", "Turing"]
    assert [one.attributes["title"] for one in page.all("span")] == ["2.000", "0.500", "1.000"]
    query, shown = page.all("p")
    assert query.text == "Turing?"
    assert shown.text.startswith("Alan Turing <b>\ufffdxxx")
    assert shown.text.endswith(f"xxx… ({len(text) - 2011:,} more characters)")
    assert [one.text for one in page.all("td")] == ["dense", "0.5000"]
