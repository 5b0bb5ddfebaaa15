"""Documents that came from files and folders which no longer hold them: finding them among the stored rows.

A row says where it came from in its metadata "path", and which document it is a chunk of in "document". This module
knows nothing about reading files.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path

from trivec.milvus import values
from trivec.milvus.table import Table


def left_over(
    table: Table, sources: Iterable[str | Path], met: Container[str], met_paths: Iterable[str]
) -> dict[str, list[str]]:
    """Return the ids of the rows of each document that is stored from these sources and is no longer there.

    What was stored from a file that is there and could not be read, so that nothing of it was met, is not gone.

    Args:
        table: Where to look.
        sources: Files and folders, as they were read; a row belongs to one if its path is that file or in that folder,
            however either is written.
        met: The ids of the documents that they hold now.
        met_paths: The files that these came from.
    """
    read = {os.path.abspath(path) for path in met_paths}  # noqa: PTH100  # a link counts as itself
    # As written and with links followed: documents may say either.
    absolute = {path for source in sources for path in (os.path.abspath(source), os.path.realpath(source))}  # noqa: PTH100
    found: dict[str, list[str]] = {}
    for row in table.listed(["id", "path", "document"], _near(absolute)):
        path = row.get("path")
        if not isinstance(path, str):
            continue
        document, path = str(row.get("document") or row["id"]), os.path.abspath(path)  # noqa: PTH100
        if document not in met and _is_in(path, absolute) and (path in read or not Path(path).exists()):
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
            parts += [f"path == {values.quoted(posix)}", f"path like {values.quoted(posix.rstrip('/') + '/%')}"]
    return " or ".join(parts)
