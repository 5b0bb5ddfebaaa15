"""An explanation as one HTML file of its own, with the picture that the search page shows."""

from __future__ import annotations

import html
import json
from importlib.resources import files

from trivec.search.explanation import Explanation

LANGUAGES = ("en", "ja")

_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{css}
</style>
</head>
<body>
<main id="main"></main>
<script id="explanation" type="application/json">{explanation}</script>
<script type="module">
{labels}
{picture}
const explanation = JSON.parse(document.getElementById("explanation").textContent);
document.getElementById("main").append(picture(explanation, LANGUAGES["{language}"]));
</script>
</body>
</html>
"""


def explanation_page(explanation: Explanation, language: str = "en") -> str:
    """Return a page that needs no other file.

    Args:
        explanation: What it shows.
        language: Out of `LANGUAGES`.

    Raises:
        ValueError: There is no such language.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r:.20} is not one of {', '.join(LANGUAGES)}")
    here = files("trivec.page")
    # "<" cannot end the element it is in, whatever a text holds.
    data = json.dumps(explanation.to_dict(), ensure_ascii=True).replace("<", "\\u003c")
    return _PAGE.format(
        language=language,
        title=html.escape(explanation.query[:80]),
        css=here.joinpath("page.css").read_text(encoding="utf-8"),
        explanation=data,
        labels=here.joinpath("labels.js").read_text(encoding="utf-8"),
        picture=here.joinpath("picture.js").read_text(encoding="utf-8"),
    )
