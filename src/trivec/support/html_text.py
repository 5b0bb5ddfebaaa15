"""Foreign text made safe to show in HTML: it is never markup, and does not turn the page around it."""

from __future__ import annotations

import html
import re

# What HTML may not hold or what reaches beyond the element that it stands in: controls but tabs and line ends, halves
# of surrogate pairs, and embeddings, overrides and isolates of the writing direction. Not among them: joiners and
# direction marks, which Persian, Hindi, Hebrew and Arabic need.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u206f\ud800-\udfff]")

_REST = "({count:,} more characters)"


def shown(text: str, most: int | None = None, rest: str = _REST) -> str:
    r"""Return a text as HTML, with U+FFFD in place of every character that is unsafe there.

    Args:
        text: The text.
        most: Characters to show at most; None: all.
        rest: Stands behind a text that is cut; `{count}` is how many characters it has more. Empty: an ellipsis alone.

    >>> shown("<b>\x1b[2J</b>")
    '&lt;b&gt;�[2J&lt;/b&gt;'
    >>> shown("wonderful", 6)
    'wonder… <bdi>(3 more characters)</bdi>'
    """
    start = html.escape(_UNSAFE.sub("\ufffd", text[:most]))
    if most is None or len(text) <= most:
        return start
    # Isolated, as the text may be written from right to left and this is not.
    return f"{start}… <bdi>{rest.format(count=len(text) - most)}</bdi>" if rest else f"{start}…"
