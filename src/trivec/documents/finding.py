"""From paths to the files that are read: folders searched, each file once, and what was left out counted.

A file's name becomes part of its documents' ids and metadata. So it is looked at here, before any work: one that no
database can hold would otherwise be noticed when all is computed. Knows nothing about what the files hold.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trivec.documents.document import DocumentError

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
SUFFIXES = (*TEXT_SUFFIXES, *RECORD_SUFFIXES)

# Ending of the files in which the command line lists what it skipped: not to be read as documents the next time.
SKIPPED = ".skipped.jsonl"

# The path that stands for what is piped into the command.
STDIN = Path("-")

# Endings shown of what a folder left out.
_ENDINGS_SHOWN = 6


@dataclass(frozen=True)
class SourceFile:
    """A file to read.

    Attributes:
        path: Where it is, as the user gave it; `STDIN` is the process's standard input.
        name: What it is called in ids: its path from the base folder, or its whole path if it lies outside.
        whole: Its whole path, links resolved but for its own name.
    """

    path: Path
    name: str
    whole: str

    @property
    def suffix(self) -> str:
        """The ending of its name, in lower case."""
        return self.path.suffix.lower()

    @property
    def is_regular(self) -> bool:
        """Whether it can be read more than once, as a pipe cannot."""
        return self.path != STDIN and self.path.is_file()


@dataclass(frozen=True)
class FoundFiles:
    """What `find_files` found.

    Attributes:
        files: Each file once, in the order of the paths, sorted within a folder.
        misnamed: Files whose name cannot be stored, and why.
        left_out: How many files of which ending were found in folders and are not read.
    """

    files: tuple[SourceFile, ...]
    misnamed: tuple[tuple[Path, str], ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def find_files(paths: Iterable[str | Path], base: Path | None = None) -> FoundFiles:
    """Find the files that paths name; a file that several of them lead to is found once.

    Folders are searched for files of the known kinds, hidden ones left out; links to folders are not followed.

    Args:
        paths: Files, folders, or "-" for standard input.
        base: The folder that names are relative to. None: the working folder.

    Raises:
        TypeError: There is a single path, not several.
        DocumentError: A path does not exist or is of another kind, or a folder cannot be read or holds no such file.
    """
    if isinstance(paths, str | os.PathLike):
        raise TypeError(f"paths is a single {type(paths).__name__}: write [path]")
    root = Path(os.path.realpath(base or Path.cwd()))
    files: dict[str, SourceFile] = {}
    misnamed: dict[str, tuple[Path, str]] = {}
    left_out: Counter[str] = Counter()
    for path in map(Path, paths):
        for file in _files_of(path, left_out):
            if file == STDIN:
                files.setdefault("-", SourceFile(file, "stdin", "-"))
                continue
            whole = Path(os.path.realpath(file.parent)) / file.name
            fault = _fault(str(whole))
            identity = os.path.realpath(file)
            if fault is None:
                name = whole.relative_to(root) if whole.is_relative_to(root) else whole
                files.setdefault(identity, SourceFile(file, name.as_posix(), whole.as_posix()))
            else:
                misnamed.setdefault(identity, (file, fault))
    return FoundFiles(tuple(files.values()), tuple(misnamed.values()), dict(left_out))


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Return what folders left out as text, the most frequent first.

    >>> describe_left_out({".pdf": 2, ".docx": 1})
    '2 .pdf, 1 .docx'
    """
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {ending}" for ending, count in ordered[:_ENDINGS_SHOWN]]
    if rest := sum(count for _, count in ordered[_ENDINGS_SHOWN:]):
        shown.append(f"{rest:,} others")
    return ", ".join(shown)


def _files_of(path: Path, left_out: Counter[str]) -> list[Path]:
    if path == STDIN:
        return [path]
    if path.is_dir():
        within: Counter[str] = Counter()
        found = sorted(_search(path, within))
        if not found:
            only = f", only {describe_left_out(within)}" if within else ""
            raise DocumentError(f"{path} holds no {', '.join(SUFFIXES)} file{only}")
        left_out.update(within)
        return found
    if not path.exists():
        raise DocumentError(f"{path} does not exist")
    if path.suffix.lower() not in SUFFIXES:
        raise DocumentError(f"{path} is not a {', '.join(SUFFIXES)} file: rename or convert it")
    return [path]


def _search(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DocumentError(f"cannot look into the folder {error.filename}: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        left_out["linked folder"] += sum(_is_link(Path(parent, name)) for name in folders)
        for file in (Path(parent, name) for name in names if not name.startswith(".")):
            suffix = SKIPPED if file.name.endswith(SKIPPED) else file.suffix.lower()
            if suffix not in SUFFIXES:
                left_out[suffix or "without ending"] += 1
            elif not file.is_file():
                left_out["broken link" if file.is_symlink() else "special file"] += 1
            else:
                yield file
    for kind in [kind for kind, count in left_out.items() if not count]:
        del left_out[kind]


def _is_link(folder: Path) -> bool:
    try:
        return folder.is_symlink()
    except OSError:  # whoever looks into it says why
        return False


def _fault(name: str) -> str | None:
    """Say why a file's path cannot be stored; None if it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the file's name is not UTF-8: rename it"
    if any(character < " " or character == "\x7f" for character in name):
        return "the file's name holds a line break or another control character: rename it"
    return None
