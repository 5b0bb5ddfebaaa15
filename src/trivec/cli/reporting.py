"""What people see besides the data: errors as one line, warnings, progress. All of it goes to stderr."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

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


def say(message: str) -> None:
    """Print a line on stderr."""
    stderr.print(Text(message), soft_wrap=True)


def counted(items: Iterable[T], description: str) -> Iterator[T]:
    """Pass the items on, counting them on stderr where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        yield from progress.track(items, description=description)


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
                # The reader, `head` for one, has had enough. Python would complain when it flushes at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            except (typer.Exit, typer.BadParameter):
                raise
            except Exception as error:  # the last place it can be caught; --debug shows all of it
                raise typer.Exit(_report(error)) from None

    return run


def _report(error: Exception) -> int:
    if _debug:
        traceback.print_exception(error)
    message = " ".join(str(error).split())
    if not isinstance(error, TrivecError | OSError | ValueError):
        message = f"{type(error).__name__}: {message} (--debug shows where)"
    stderr.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *_place: Any, **_more: Any) -> None:
    if issubclass(category, UserWarning):
        stderr.print(Text.assemble(("warning: ", "yellow"), " ".join(str(message).split())), soft_wrap=True)
