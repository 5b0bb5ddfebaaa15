"""What people see besides the data: errors as one line, warnings, progress. All of it goes to stderr."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from trivec.cli.option_names import with_option_names
from trivec.errors import TrivecError

P = ParamSpec("P")
T = TypeVar("T")

FAILED = 1
INTERRUPTED = 130

stderr = Console(stderr=True, highlight=False)

_debug = False


def set_debug(on: bool) -> None:
    """Choose whether errors come with their traceback."""
    global _debug  # noqa: PLW0603 - one command line runs in a process
    _debug = on
    if not on:
        # huggingface_hub logs each of its many attempts to reach the hub; it reads this when it is imported.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def leave_with_the_reader() -> NoReturn:
    """End the command, as the reader of its output has had enough, as `head` has: quietly, and not as a failure.

    Raises:
        SystemExit: always.
    """
    # Python would complain when it flushes at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def settle_broken_pipes() -> None:
    """Have every rich Console do so too, also those that typer makes for `--help`; its own way is to exit with 1."""

    def leave(_console: Console) -> None:
        leave_with_the_reader()

    Console.on_broken_pipe = leave  # type: ignore[method-assign, assignment]


def say(message: str) -> None:
    """Print a line on stderr."""
    stderr.print(Text(message), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    stderr.print(Text.assemble(("warning: ", "yellow"), " ".join(message.split())), soft_wrap=True)


def printable(text: str) -> str:
    """Return the text without control characters: a document must not be able to drive the reader's terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def counted(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Pass the items on, counting them on stderr where that is a terminal and the work is long."""
    from trivec.encoding import progress_bar  # loads NumPy, which `--help` must not

    with progress_bar(total, description, "document", stderr.is_terminal) as progress:
        for item in items:
            yield item
            progress.update()


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command print its errors as one line and end with the right exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with warnings.catch_warnings():
            if not _debug:
                warnings.showwarning = _show_warning
            try:
                command(*args, **kwargs)
                sys.stdout.flush()
            except KeyboardInterrupt:
                say("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:
                leave_with_the_reader()
            except (typer.Exit, typer.BadParameter):
                raise
            except Exception as error:  # the last place it can be caught; --debug shows all of it
                raise typer.Exit(_report(error)) from None

    return run


def _report(error: Exception) -> int:
    if _debug:
        traceback.print_exception(error)
    message = with_option_names(" ".join(str(error).split()))
    if not isinstance(error, TrivecError | OSError | ValueError):
        message = f"{type(error).__name__}: {message} (--debug shows where)"
    stderr.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *_place: Any, **_more: Any) -> None:
    if issubclass(category, UserWarning):
        warn(with_option_names(str(message)))
