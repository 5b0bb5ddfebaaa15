"""The text of an HTML page, by the standard library's parser: no scripts, no styles, a line for each block."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser

_LEFT_OUT = frozenset({"script", "style", "template", "noscript"})
# What stands within a line; whatever is not among them ends the line, so that no two words are glued together.
_INLINE = frozenset(
    {
        "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "cite", "code", "data", "del", "dfn",
        "em", "font", "i", "img", "input", "ins", "kbd", "label", "mark", "meta", "link", "q", "rp", "rt",
        "ruby", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
        "wbr"
    }
)  # fmt: skip
_CELLS = frozenset({"td", "th"})

_declared = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
# Where a page says how it is encoded, browsers look for it.
_DECLARED_WITHIN = 1024


def html_text(page: str) -> str:
    r"""Return the text that a page shows, its title first.

    >>> html_text("<title>Turing</title><p>Born <b>1912</b>&nbsp;in<br>London<script>track()</script>")
    'Turing\nBorn 1912 in\nLondon'
    """
    parser = _Text()
    parser.feed(page)
    parser.close()
    return parser.text()


def declared_encoding(page: bytes) -> str | None:
    """Return the encoding that a page declares in a <meta> tag, if Python knows it."""
    found = _declared.search(page[:_DECLARED_WITHIN])
    try:
        name = codecs.lookup(found[1].decode("ascii")).name if found else None
    except (LookupError, UnicodeDecodeError):
        return None
    # A page whose tag could be read so far is not in UTF-16, whatever it says.
    return None if name is None or name.startswith(("utf-16", "utf-32")) else name


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines = [""]
        self._left_out = 0
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LEFT_OUT:
            self._left_out += 1
        self._preformatted += tag == "pre"
        self._space_around(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._space_around(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _LEFT_OUT and self._left_out:
            self._left_out -= 1
        if tag == "pre" and self._preformatted:
            self._preformatted -= 1
        self._space_around(tag)

    def handle_data(self, data: str) -> None:
        if self._left_out:
            return
        first, *more = data.split("\n") if self._preformatted else [data]
        self._lines[-1] += first
        self._lines += more

    def text(self) -> str:
        lines = (" ".join(line.split()) for line in self._lines)
        return "\n".join(line for line in lines if line)

    def _space_around(self, tag: str) -> None:
        if tag in _CELLS:
            self._lines[-1] += " "
        elif tag not in _INLINE:
            self._lines.append("")
