"""Hits as an HTML table without scripts, for notebooks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from trivec.support.html_text import shown

if TYPE_CHECKING:
    from trivec.search.hits import Hit

# Hits, characters of a text, and characters of an id or of a piece of metadata that are shown.
_HITS, _TEXT, _SHORT = 100, 500, 100
_SCORES = {
    "dense": "dense_score",
    "sparse": "sparse_score",
    "colbert": "colbert_score",
    "cross-encoder": "cross_encoder_score",
}
# Letters that are written without spaces: a word of them may stand within a longer run (Han, kana, Thai, Lao, Khmer).
_UNSPACED = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u1780-\u17ff]"
)
# Notebooks align cells to the right, and some do not break their lines.
_NAME = ' style="text-align: start; white-space: pre-line; overflow-wrap: break-word" dir="auto"'
_PROSE = _NAME.replace("break-word", "anywhere")  # which may be narrower than its longest word


def table_of_hits(hits: Sequence[Hit]) -> str:
    """Return hits, best first, as a table: rank, scores, text with its matched words marked, id and metadata."""
    if not hits:
        return "<p>No hits.</p>"
    scores = {name: field for name, field in _SCORES.items() if any(getattr(hit, field) is not None for hit in hits)}
    in_chunks = any(hit.chunks for hit in hits)
    header = ["rank", "score", *scores, *(["chunks"] if in_chunks else [])]
    left = {"text": _PROSE, "id": _NAME, "metadata": _NAME}
    rows = []
    for rank, hit in enumerate(hits[:_HITS], start=1):
        figures = [str(rank), *(_figure(getattr(hit, field)) for field in ("score", *scores.values()))]
        figures += [str(len(hit.chunks or ()))] if in_chunks else []
        words = [word for word, _ in hit.matched_words or ()]
        metadata = [f"{shown(name, _SHORT)}: {shown(str(value), _SHORT)}" for name, value in hit.metadata.items()]
        texts = [_marked(hit.text, words), shown(hit.id, _SHORT), "\n".join(metadata)]
        cells = [f"<td>{one}</td>" for one in figures]
        cells += [f"<td{style}>{one}</td>" for style, one in zip(left.values(), texts, strict=True)]
        rows.append("".join(cells))
    more = f"<p>{len(hits) - _HITS:,} more hits</p>" if len(hits) > _HITS else ""
    return (
        f"<table><thead><tr>{''.join(f'<th>{name}</th>' for name in header)}"
        f"{''.join(f'<th{style}>{name}</th>' for name, style in left.items())}</tr></thead>\n"
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>{more}"
    )


def _figure(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"


def _marked(text: str, words: Iterable[str]) -> str:
    """The beginning of a text, with the words that matched marked, whatever case they are in."""
    parts = []
    end = 0
    for start, stop in _places(text[:_TEXT], words):
        parts.append(f"{shown(text[end:start])}<mark>{shown(text[start:stop])}</mark>")
        end = stop
    return "".join(parts) + shown(text[end:], _TEXT - end)


def _places(text: str, words: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Where the words begin and end: at the beginning of a word of the text, unless they are written without spaces."""
    # The longest comes first, as it may begin with another.
    wanted = sorted((word for word in set(words) if word.strip("\u2581")), key=lambda word: (-len(word), word))
    if not wanted:
        return
    for found in re.finditer("|".join(map(re.escape, wanted)), text, re.IGNORECASE):
        start = found.start()
        within = start > 0 and unicodedata.category(text[start - 1])[0] in "LMN"
        if not within or _UNSPACED.match(found[0]):
            yield found.span()
