"""What cannot be a document, with its place and why: one by one, or all of a run as one error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trivec.documents.document import DocumentError, MetadataError

# Files of those that are bad which an error names.
_FILES_NAMED = 20


@dataclass(frozen=True)
class BadRecord:
    """A record, or a whole file, that cannot be a document.

    Attributes:
        file: The file's path.
        line: Its line or row; None where the whole file is meant.
        reason: What is wrong, and what to do about it.
        record: As much of the record as could be read; None for a whole file.
        in_metadata: Whether just its metadata is at fault.
    """

    file: str
    line: int | None
    reason: str
    record: Any = None
    in_metadata: bool = False

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"

    def error(self) -> DocumentError:
        """Return it as an error to raise."""
        return (MetadataError if self.in_metadata else DocumentError)(str(self))

    def as_json(self) -> str:
        """Return it as a line of JSON with file, line, reason and record."""
        facts = {"file": self.file, "line": self.line, "reason": self.reason, "record": self.record}
        return json.dumps(facts, default=str)


def all_in_one(bad: Sequence[BadRecord], more: bool) -> DocumentError:
    """Return all that is bad as one error, which names each file once."""
    by_file: dict[str, list[BadRecord]] = {}
    for record in bad:
        by_file.setdefault(record.file, []).append(record)
    told = []
    for records in list(by_file.values())[:_FILES_NAMED]:
        rest = len(records) - 1
        last = more and records[-1] is bad[-1]
        told.append(str(records[0]) + (f" (and {'at least ' if last else ''}{rest:,} more)" if rest else ""))
    if len(by_file) == 1:
        message = told[0]
    else:
        named = f"; and {len(by_file) - _FILES_NAMED:,} more" if len(by_file) > _FILES_NAMED else ""
        message = f"{len(by_file):,} files cannot be read as they are: {'; '.join(told)}{named}"
    return (MetadataError if all(record.in_metadata for record in bad) else DocumentError)(message)
