"""Foreign text made safe to show: file names, documents, ids and messages of servers must not drive the terminal.

What stands in a file's name or in a document was written by somebody else. Escape sequences in it could clear the
screen, set the window's title or hide what the line says; overrides of the writing direction could show a name that is
not the file's. Here is the one place that takes these out. It is used twice: by what builds a line or a table
(`safe`, `safe_json`), and, for all that was forgotten, by every rich Console of the process and by `typer.echo`
(`settle_output`).
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0 and C1 controls (U+009B opens an escape sequence as ESC [ does), line and paragraph separators, embeddings,
# overrides and isolates of the writing direction with their obsolete kin, and halves of surrogate pairs. Not among
# them: joiners (U+200C, U+200D), which Persian, Hindi and emoji need, and direction marks, which Hebrew and Arabic use.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ud800-\udfff"
_unsafe = re.compile(f"[{_UNSAFE}]")
_unsafe_in_lines = re.compile(f"[{_UNSAFE}]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))

# Name of the error handler that writes what an output's encoding lacks as \uXXXX, which JSON reads back.
_ESCAPED = "trivec-escaped"

_render = Console.render
_echo = typer.echo


def safe(text: str) -> str:
    r"""Return the text with U+FFFD in place of every character that could drive a terminal; line ends are such too.

    >>> safe("notes\x1b[2J.txt")
    'notes�[2J.txt'
    """
    return _unsafe.sub("\ufffd", text)


def safe_json(value: Any, *, indent: int | None = 2) -> str:
    r"""Return a value as JSON, in which the same characters are written as \uXXXX: the value stays what it is."""
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    return _unsafe_in_lines.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value on stdout as JSON that is safe to show and complete, whatever the terminal's encoding lacks."""
    sys.stdout.write(safe_json(value, indent=indent) + "\n")


def settle_output() -> None:
    r"""Make this process's output safe and complete whoever prints it; call it before anything is printed.

    Every rich Console, also those that typer makes for usage errors, and `typer.echo` replace what `safe` replaces but
    line ends. stdout writes characters that its encoding lacks as \uXXXX, where it would stop half way.
    """
    Console.render = _render_safely  # type: ignore[method-assign, assignment]
    typer.echo = _echo_safely
    codecs.register_error(_ESCAPED, _escaped)
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors=_ESCAPED)


def _render_safely(
    console: Console, renderable: RenderableType, options: ConsoleOptions | None = None
) -> Iterable[Segment]:
    for segment in _render(console, renderable, options):
        if segment.control or not _unsafe_in_lines.search(segment.text):
            yield segment
        else:
            yield Segment(_unsafe_in_lines.sub("\ufffd", segment.text), segment.style)


def _echo_safely(message: Any = None, *arguments: Any, **options: Any) -> None:
    if isinstance(message, str | os.PathLike):
        message = _unsafe_in_lines.sub("\ufffd", str(message))
    _echo(message, *arguments, **options)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (lacking[i : i + 2] for i in range(0, len(lacking), 2))
    return "".join(f"\\u{int.from_bytes(unit, 'big'):04x}" for unit in units), error.end
