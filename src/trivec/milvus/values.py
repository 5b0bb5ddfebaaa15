"""Values that users pass to collections, as Milvus can hold or be asked for them: times, ids and metadata.

NumPy's scalars count as Python's. This module knows nothing about Milvus but what it cannot be asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np

# The one-character escapes that a string in a filter may hold; Milvus reads no \u and no \b or \f.
_ESCAPED = "\t\n\r"


def seconds(name: str, value: object) -> float | None:
    """Return an argument that is a time in seconds, or None.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0.
    """
    if value is None:
        return None
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r:.60} ({type(value).__name__}): it must be a number of seconds, or None")
    if not float(value) > 0:
        raise ValueError(f"{name} is {value}: it must be above 0 seconds")
    return float(value)


def ids(given: object) -> Iterator[str]:
    """Yield ids as they are stored: an int is its digits; a single str or int is one id, not several.

    Raises:
        TypeError: One is neither a str nor an int, or `given` is no iterable of them.
    """
    if isinstance(given, str | Integral):
        given = [given]
    if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"ids is {given!r:.60} ({type(given).__name__}): give an id, or an iterable of ids")
    for position, identifier in enumerate(given):
        if isinstance(identifier, bool) or not isinstance(identifier, str | Integral):
            raise TypeError(f"ids[{position}] is {identifier!r:.60} ({type(identifier).__name__}), not a str or an int")
        yield str(identifier) if isinstance(identifier, str) else str(int(identifier))


def can_be_asked_for(identifier: str) -> bool:
    """Return whether Milvus can be asked for an id; one that it cannot is in no collection.

    Control characters have no way into a filter, half a surrogate pair none into UTF-8.
    """
    return bool(identifier) and not any(
        (character < " " and character not in _ESCAPED) or "\ud800" <= character <= "\udfff" for character in identifier
    )


def plain(value: Any) -> Any:
    """Return metadata as Python's own kinds of value: NumPy's scalars and arrays, and tuples, turned into these.

    Raises:
        TypeError: A dict in it has a key that is not a str; JSON has no other, and turning it into one would change it.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} inside it is {type(key).__name__}, not str")
        return {key: plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value


def quoted(text: str) -> str:
    """Return a text as a string of Milvus' filter language, whatever quotes or backslashes it holds."""
    return json.dumps(text, ensure_ascii=False)
