"""From a record to a document: which of its fields are text, id and metadata, and what they must not hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from trivec.documents.bad_records import BadRecord
from trivec.documents.document import Document, content_id
from trivec.documents.finding import STDIN, SourceFile
from trivec.documents.records import Record, Unreadable
from trivec.support.jsonl import kind_of

_lone_surrogate = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Fields:
    """Which of a record's fields are its text, its id and its metadata.

    Attributes:
        text: The field that holds the text.
        id: The field that holds the id; None: "id" where a record has it.
        metadata: The fields to keep; None: all the others.
    """

    text: str
    id: str | None
    metadata: frozenset[str] | None

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """All fields that are used; None: whatever there is."""
        return None if self.metadata is None else (self.text, self.id or "id", *self.metadata)

    def document(self, record: Record, file: SourceFile, number: int) -> Document | BadRecord:
        """Make a document of a record that stands in a line (or row) of a file, or say why it is none."""
        if isinstance(record, Unreadable):
            return BadRecord(str(file.path), number, record.reason, record.record)
        try:
            text = self._text(record)
            identifier = self._id(record)
        except _FaultError as fault:
            return BadRecord(str(file.path), number, str(fault), dict(record))
        try:
            metadata = self._metadata(record)
        except _FaultError as fault:
            return BadRecord(str(file.path), number, str(fault), dict(record), in_metadata=True)
        if file.path == STDIN:
            return Document(identifier or content_id(text), text, metadata)
        return Document(identifier or f"{file.name}:{number}", text, {"path": file.whole, **metadata})

    def _text(self, record: Mapping[str, Any]) -> str:
        if self.text not in record:
            raise _FaultError(f"no field {self.text!r} for the text; the record has {_named(record)}")
        text = record[self.text]
        if not isinstance(text, str):
            raise _FaultError(f"the text field {self.text!r} holds {kind_of(text)}, not text")
        return _utf8(self.text, text)

    def _id(self, record: Mapping[str, Any]) -> str | None:
        field = self.id or "id"
        identifier = record.get(field)
        if identifier is None:
            if self.id is not None:
                raise _FaultError(f"no field {self.id!r} for the id")
            return None
        if isinstance(identifier, bool) or not isinstance(identifier, str | int):
            raise _FaultError(f"the id field {field!r} holds {kind_of(identifier)}, not text or an integer")
        return _utf8(field, str(identifier)) or None

    def _metadata(self, record: Mapping[str, Any]) -> dict[str, Any]:
        taken = {self.text, self.id or "id"}
        kept = {
            name: value
            for name, value in record.items()
            if name not in taken and (self.metadata is None or name in self.metadata)
        }
        for name, value in kept.items():
            if fault := _not_json(value) or _not_json(name):
                raise _FaultError(f"the field {name!r} holds {fault}: mend it, or leave it out of the metadata")
        return kept


def typed(value: str, number: Callable[[str], int | float] | None) -> str | int | float | None:
    """Return a value of a column of numbers as such, None where it is empty; of a column of text, as it is."""
    if number is None:
        return value
    return number(value) if value.strip() else None


class _FaultError(Exception):
    """What is wrong with a record."""


def _utf8(name: str, value: str) -> str:
    if found := _lone_surrogate.search(value):
        raise _FaultError(f"the field {name!r} holds a lone surrogate (U+{ord(found[0]):04X}), which UTF-8 has not")
    return value


def _named(record: Mapping[str, Any]) -> str:
    """Name a record's fields; a single one of CSV may be a header that was not separated."""
    names = list(record)
    if len(names) == 1 and (found := next((mark for mark in ";\t|" if mark in names[0]), None)):
        return f"{names[0]!r}: are its columns separated by {found!r}? Then name the delimiter"
    return ", ".join(map(repr, names)) or "no fields"


def _not_json(value: Any) -> str | None:
    """Say what of a value JSON and UTF-8 cannot hold; None if they hold all of it."""
    fault = None
    if isinstance(value, str):
        if found := _lone_surrogate.search(value):
            fault = f"a lone surrogate (U+{ord(found[0]):04X}), which UTF-8 has not"
    elif isinstance(value, float):
        fault = None if math.isfinite(value) else f"{value}, which JSON has not"
    elif isinstance(value, Mapping):
        fault = next(filter(None, map(_not_json, chain(value, value.values()))), None)
    elif isinstance(value, list):
        fault = next(filter(None, map(_not_json, value)), None)
    elif value is not None and not isinstance(value, bool | int):
        fault = f"{kind_of(value)}, which JSON has not"
    return fault
