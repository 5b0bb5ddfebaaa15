"""The names in a filter expression, so that one which no document has can be told.

Milvus finds nothing for a field that does not exist, as any key may be among a document's dynamic fields; a mistyped
name would therefore read as "nothing found". This module knows only as much of the language as names take.
"""

from __future__ import annotations

import re

# Words of the language that are no names; it takes them in capitals too.
_WORDS = frozenset(["and", "or", "not", "in", "like", "is", "null", "true", "false", "exists", "iso", "interval"])

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|(?P<number>\d[\w.]*)"""
    r"""|(?P<name>\$?[^\W\d]\w*)(?P<call>\s*\()?"""
    r"""|(?P<other>.)""",
    re.DOTALL,
)
_META = "$meta"


def names(expression: str) -> list[str]:
    r"""Return the fields that a filter expression names, each once, in order.

    >>> names('year > 2000 and lang == "en" and json_contains(tags["all"], "x") and $meta["a b"] is not null')
    ['year', 'lang', 'tags', 'a b']
    """
    found: dict[str, None] = {}
    after_meta = False
    for token in _TOKEN.finditer(expression):
        if after_meta and token["string"]:
            found[token["string"][1:-1]] = None
            after_meta = False
        elif token["name"] == _META:
            after_meta = True
        elif token["name"] and not token["call"] and token["name"].lower() not in _WORDS:
            found[token["name"]] = None
    return list(found)
