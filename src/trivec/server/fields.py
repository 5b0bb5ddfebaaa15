"""Reads the fields of a request's body: each error names the field and what was given for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trivec.server.errors import RequestError

Body = Mapping[str, Any]

# What every reader of JSON takes for a whole number; also as 12.0, which is how JavaScript and R write some.
LARGEST_WHOLE = 2**53


def wrong(field: str, value: Any, expected: str) -> RequestError:
    """Return the error of a field that is not what it must be."""
    return RequestError("Validation", f"{field} is {value!r:.80}: it must be {expected}", param=field)


def text(body: Body, field: str) -> str:
    """Return a field that is a text."""
    value = _there(body, field)
    if not isinstance(value, str):
        raise wrong(field, value, "a text")
    return value


def texts(body: Body, field: str) -> list[str]:
    """Return a field that is a text or a list of texts, as a list.

    Raises:
        RequestError: It is missing, holds something else, or no text at all.
    """
    value = _there(body, field)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise wrong(field, value, "a text or a list of texts")
    if not value:
        raise RequestError("Empty", f"{field} is empty: give at least one text", param=field)
    for i, each in enumerate(value):
        if not isinstance(each, str):
            if isinstance(each, int) or (isinstance(each, list) and all(isinstance(one, int) for one in each)):
                raise RequestError(
                    "Validation",
                    f"{field} holds token ids, which another model's tokenizer has made: send texts (langchain's "
                    "OpenAIEmbeddings does with check_embedding_ctx_length=False)",
                    param=field,
                )
            raise wrong(f"{field}[{i}]", each, "a text")
    return value


def flag(body: Body, field: str, default: bool) -> bool:
    """Return a field that is true or false."""
    value = body.get(field)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(field, value, "true or false")
    return value


def whole(body: Body, field: str, least: int = 1) -> int | None:
    """Return a field that is a whole number, None where it is not there."""
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= LARGEST_WHOLE:
        raise wrong(field, value, f"a whole number, at least {least}")
    return value


def choice(body: Body, field: str, choices: Sequence[str], default: str | None = None) -> str | None:
    """Return a field that is one of some words."""
    value = body.get(field)
    if value is None:
        return default
    if value not in choices:
        raise wrong(field, value, "one of " + ", ".join(choices))
    return str(value)


def choices(body: Body, field: str, of: Sequence[str], default: Sequence[str]) -> frozenset[str]:
    """Return a field that is a list of some words."""
    value = body.get(field)
    if value is None:
        return frozenset(default)
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, str) and one in of for one in value):
        raise wrong(field, value, "a list out of " + ", ".join(of))
    return frozenset(value)


def _there(body: Body, field: str) -> Any:
    if body.get(field) is None:
        raise RequestError("Validation", f"{field} is missing", param=field)
    return body[field]
