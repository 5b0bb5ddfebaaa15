"""How the API reference reads docstrings: `Example:` is what the reader of Google's style knows as `Examples:`.

An extension of griffe, which mkdocstrings reads the sources with; mkdocs.yml names it.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class ExampleSections(Extension):
    """Has examples shown as code, not as text with marks of quotation."""

    def on_object(self, *, obj: Object, **_of_griffe: Any) -> None:
        """Rename the section."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
