"""How the API reference reads docstrings: `Example:` is what the reader of Google's style knows as `Examples:`.

An extension of griffe, which mkdocstrings reads the sources with; mkdocs.yml names it.
"""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

from griffe import Extension, Object

_HEADED = re.compile(r"^Example:$", re.MULTILINE)
_BARE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)


class ExampleSections(Extension):
    """Has examples shown as code, not as text with marks of quotation."""

    def on_object(self, *, obj: Object, **_of_griffe: Any) -> None:
        """Rename the section, and make one of an example that stands by itself."""
        if obj.docstring:
            text = _HEADED.sub("Examples:", obj.docstring.value)
            obj.docstring.value = _BARE.sub(lambda found: f"Examples:\n{indent(found[0], '    ')}", text)
