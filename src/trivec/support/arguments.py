"""What users pass, checked at the door: each error names the argument and what was given for it."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Return an argument as an int; numpy's integers count too, a bool does not.

    Raises:
        TypeError: It is no whole number: a str, None, a float.
        ValueError: It is below `least`.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r:.60} ({type(value).__name__}) must be a whole number") from None
    if number < least:
        raise ValueError(f"{name}={number} must be at least {least}")
    return number


def switch(name: str, value: Any) -> bool:
    """Return an argument that is True or False.

    Raises:
        TypeError: It is neither; a text such as "False" would count as True.
    """
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{name}={value!r:.60} ({type(value).__name__}) must be True or False")


def checked_weights(
    weights: Any,
    scores: Sequence[str] = ("dense", "sparse", "colbert"),
    name: str = "weights",
    needed: int | None = None,
) -> tuple[float, ...]:
    """Return the weights of a sum of scores: finite numbers, none negative, not all 0.

    Args:
        weights: What was given.
        scores: The scores that they are of, in order.
        name: What the weights are called.
        needed: Of how many of the first scores one must have a weight above 0; None: of all.

    Raises:
        ValueError: They are not so.
    """
    given = list(weights) if isinstance(weights, Iterable) else [weights]
    try:
        values = tuple(math.nan if isinstance(weight, str | bool) else float(weight) for weight in given)
    except (TypeError, ValueError, OverflowError):
        values = ()
    if len(values) != len(scores) or not all(0 <= v < math.inf for v in values) or not any(values[:needed]):
        many, above = {2: "two", 3: "three"}[len(scores)], " or ".join(scores[:needed])
        raise ValueError(
            f"{name} must be {many} numbers ({', '.join(scores)}), none negative, {above} above 0: got {given!r:.60}"
        )
    return values


def checked_texts(texts: Iterable[str], name: str = "texts") -> Iterator[str]:
    """Yield the texts, which the user knows as `name`, making sure that each is a string.

    Raises:
        TypeError: `texts` is a bare string, no iterable, or one whose elements are not its texts in their order (a
            table, a mapping, a set), or an element is not a string; the index is named.
    """
    refuse_what_is_no_list(name, texts, "str")
    return _checked(texts, name)


def checked_text(i: int, element: Any, name: str = "texts") -> str:
    """Return the i-th of some texts, which the user knows as `name`.

    Raises:
        TypeError: It is no string.
    """
    if isinstance(element, str):
        return element
    text = element.as_py() if hasattr(element, "as_py") else element  # an element of a pyarrow array
    if not isinstance(text, str):
        raise TypeError(f"{name}[{i}] is {text!r:.60} ({type(text).__name__}), expected a str")
    return text


def checked_pairs(pairs: Iterable[Any]) -> tuple[list[tuple[str, str]], bool]:
    """Return pairs of texts as a list, and whether it was one pair given by itself.

    Raises:
        TypeError: `pairs` is no iterable of pairs in their order, or a pair is not two strings; the index is named.
    """
    refuse_what_is_no_list("pairs", pairs, "(text, text)")
    listed: list[Any] = list(pairs)
    one = len(listed) == 2 and all(isinstance(text, str) for text in listed)
    listed = [tuple(listed)] if one else listed
    return [checked_pair(i, pair) for i, pair in enumerate(listed)], one


def checked_pair(i: int, pair: Any) -> tuple[str, str]:
    """Return the i-th of some pairs of texts.

    Raises:
        TypeError: It is not two strings.
    """
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise TypeError(f"pairs[{i}] is {pair!r:.60}, expected two texts")
    query, passage = pair
    if not (isinstance(query, str) and isinstance(passage, str)):
        raise TypeError(f"pairs[{i}] is {pair!r:.60}, expected two texts")
    return query, passage


def refuse_what_is_no_list(name: str, values: Any, elements: str) -> None:
    """Make sure that going through an argument gives its elements, in their order.

    Args:
        name: Of the argument.
        values: The argument.
        elements: What it should hold, for the message.

    Raises:
        TypeError: It is a bare string, a mapping, a table, a set or no iterable at all.
    """
    wanted = f"{name} must be a list or other iterable of {elements}, got"
    kind = type(values).__name__
    if isinstance(values, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"{wanted} a bare {kind}: write [{name[:-1]}]")
    if isinstance(values, (set, frozenset)):
        raise TypeError(f"{wanted} a {kind}, which has no order to give the vectors in: write sorted({name})")
    if isinstance(values, Mapping):
        raise TypeError(f'{wanted} a {kind}: name what is meant, as {name}["text"] or list({name}.values())')
    columns = getattr(values, "columns", None)  # of pandas and polars
    if columns is None or "pyarrow" in type(values).__module__:  # whose `columns` are the data
        columns = getattr(values, "column_names", None)  # of pyarrow and datasets
    if columns is not None:
        known = [column for column in columns if isinstance(column, str)]
        column = "text" if "text" in known or not known else known[0]
        raise TypeError(f'{wanted} a {kind}: name the column, as {name}["{column}"]')
    if not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{wanted} {kind}")


def _checked(texts: Iterable[Any], name: str) -> Iterator[str]:
    for i, element in enumerate(texts):
        yield checked_text(i, element, name)
