"""A file of settings, for what is too rarely set to be an option: a JSON object, its names fields of dataclasses."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import typer

from trivec.support.jsonl import json_object

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def read_settings(file: Path, *settings: type[Any], but: Container[str]) -> dict[str, Any]:
    """Return the values of a file, by their names.

    Args:
        file: The file.
        settings: Dataclasses whose fields may be set.
        but: The fields that may not be, as they are options.

    Raises:
        OSError: The file cannot be read.
        typer.BadParameter: It is not JSON, or holds another name, or a value of another type than the field has.
    """
    kinds = {name: kind for one in settings for name, kind in get_type_hints(one).items()}
    kinds = {name: kind for name, kind in kinds.items() if name not in but and not is_dataclass(kind)}
    try:
        values = json_object(file.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"--settings {file}: {error}") from error
    for name, value in values.items():
        if name not in kinds:
            option = f"it is the option --{name.replace('_', '-')}; " if name in but else ""
            raise typer.BadParameter(f"--settings {file}: no setting {name!r}: {option}there are {', '.join(kinds)}")
        if not _fits(value, kinds[name]):
            raise typer.BadParameter(
                f"--settings {file}: {name} must be {_called(kinds[name])}, not {json.dumps(value, ensure_ascii=False)}"
            )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def of(settings: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return those of the values that a dataclass has fields for."""
    return {field.name: values[field.name] for field in fields(settings) if field.name in values}


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return isinstance(value, list) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if choices := get_args(kind):
        return any(_fits(value, choice) for choice in choices)
    return type(value) is kind or (kind is float and type(value) is int)


def _called(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a list of {len(get_args(kind))} numbers"
    return ", or ".join(_KINDS[choice] for choice in get_args(kind) or [kind])
