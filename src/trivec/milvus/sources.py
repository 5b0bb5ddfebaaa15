"""Documents that came from files and folders which no longer hold them: finding them among the stored rows.

A row says where it came from in its metadata "path", and which document it is a chunk of in "document". This module
knows nothing about reading files.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path

from trivec.milvus import arguments
from trivec.milvus.table import Table


def left_over(table: Table, sources: Iterable[str | Path], met: Container[str]) -> dict[str, list[str]]:
    """Return the ids of the rows of each document that is stored from these sources and was not met there.

    Args:
        table: Where to look.
        sources: Files and folders, as they were read; a row belongs to one if its path is that file or in that folder,
            however either is written.
        met: The ids of the documents that they hold now.
    """
    absolute = [os.path.abspath(source) for source in sources]  # noqa: PTH100  # a link counts as itself
    found: dict[str, list[str]] = {}
    for row in table.listed(["id", "path", "document"], _near(absolute)):
        path = row.get("path")
        if not isinstance(path, str):
            continue
        document = str(row.get("document") or row["id"])
        if document not in met and _is_in(os.path.abspath(path), absolute):  # noqa: PTH100
            found.setdefault(document, []).append(row["id"])
    return found


def _is_in(path: str, sources: Iterable[str]) -> bool:
    return any(path == source or path.startswith(source.rstrip(os.sep) + os.sep) for source in sources)


def _near(sources: Iterable[str]) -> str:
    """Return a filter that leaves the rows of these sources, and more than these where that cannot be said.

    "%" and "_" stand for any characters in it, also where they are part of a name: it then leaves more.
    """
    parts = []
    for source in sources:
        for form in {source, os.path.relpath(source)}:
            posix = Path(form).as_posix()
            if posix == "." or posix.startswith("..") or "\\" in posix:
                return ""
            parts += [f"path == {arguments.quoted(posix)}", f"path like {arguments.quoted(posix.rstrip('/') + '/%')}"]
    return " or ".join(parts)
