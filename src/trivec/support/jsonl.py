"""What a line of a JSON-lines file holds, or what is wrong with it in words for who has to mend it. Knows no files."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def json_object(line: str | bytes) -> dict[str, Any]:
    """Return the object that a line, or a small file, is; bytes are UTF-8, with or without a byte order mark.

    Raises:
        ValueError: It is none, or names a field twice, of which JSON's readers would keep the last.
    """
    try:
        record = json.loads(line, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not JSON: {error.msg} at {place}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"byte 0x{error.object[error.start]:02x} is not {error.encoding.upper()}") from error
    except _RepeatedError:
        raise
    except ValueError as error:  # the only other one: Python reads integers of at most 4,300 digits
        raise ValueError("an integer has too many digits: put it in quotes") from error
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError(f"{kind_of(record)}, not a JSON object")
    return record


class _RepeatedError(ValueError):
    pass


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _RepeatedError(f"it names the field {name!r} twice: rename or remove one")
    return found


def kind_of(value: object) -> str:
    """Return what a value is, for messages."""
    return "null" if value is None else f"a {type(value).__name__}"
