"""An explanation as HTML without scripts, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trivec.support.html_text import shown

if TYPE_CHECKING:
    from trivec.search.explanation import Explanation, Word


def still_picture(explanation: Explanation) -> str:
    """Return both texts with their words by weight, and the scores."""
    lines = [
        _words(explanation.query, explanation.query_words),
        _words(explanation.text, explanation.text_words),
        "<table>"
        + "".join(f"<tr><td>{shown(mode)}</td><td>{score:.4f}</td></tr>" for mode, score in explanation.scores.items())
        + "</table>",
    ]
    return "".join(lines)


def _words(text: str, words: Sequence[Word]) -> str:
    heaviest = max((word.weight for word in words), default=0.0) or 1.0
    parts = []
    end = 0
    for word in words:
        shade = f"rgb(11 92 173 / {0.45 * word.weight / heaviest:.3f})"
        parts.append(shown(text[end : word.start]))
        spelled = shown(text[word.start : word.end])
        parts.append(f'<span style="background: {shade}" title="{word.weight:.3f}">{spelled}</span>')
        end = word.end
    return f'<p dir="auto">{"".join(parts)}{shown(text[end:], 2000)}</p>'
