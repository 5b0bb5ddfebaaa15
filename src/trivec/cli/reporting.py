"""What people see besides the data: errors as one line, warnings, progress, how it ended. All of it goes to stderr."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from trivec.cli.option_names import with_option_names
from trivec.cli.safe_text import print_json, safe
from trivec.cli.signals import Terminated
from trivec.errors import TrivecError

# `print_json` and `safe` are for commands to print with, as `say` and `warn` are.
__all__ = [
    "FAILED",
    "INTERRUPTED",
    "TERMINATED",
    "amount",
    "confirmed",
    "counted",
    "interrupted",
    "leave_with_the_reader",
    "out_of",
    "print_json",
    "reported",
    "safe",
    "say",
    "set_debug",
    "settle_broken_pipes",
    "stderr",
    "warn",
]

P = ParamSpec("P")
T = TypeVar("T")

FAILED = 1
INTERRUPTED = 130
TERMINATED = 143

stderr = Console(stderr=True, highlight=False)

_debug = False

# Bars that `counted` has on the screen. Whoever counts may be stopped in between: then they are closed from outside.
_bars: dict[int, Any] = {}


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
        SystemExit: Always.
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
    _print(Text(safe(message)))


def warn(message: str) -> None:
    """Print a warning on stderr."""
    _print(Text.assemble(("warning: ", "yellow"), safe(" ".join(message.split()))))


def confirmed(question: str) -> bool:
    """Ask whoever sits at the terminal, on stderr as stdout may be data; anything but yes means no."""
    stderr.print(Text(f"{safe(question)} [y/N] "), end="", soft_wrap=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print(line: Text) -> None:
    with _bars_out_of_the_way():
        stderr.print(line, soft_wrap=True)


def _bars_out_of_the_way() -> AbstractContextManager[None]:
    """Wipe progress bars, also those of the library, and draw them again below what is printed meanwhile."""
    if (loaded := sys.modules.get("tqdm")) is None or not stderr.is_terminal:
        return nullcontext()
    bars_aside: AbstractContextManager[None] = loaded.tqdm.external_write_mode(file=sys.stderr)
    return bars_aside


def amount(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> amount(1, "document"), amount(2048, "document"), amount(2, "query", "queries")
    ('1 document', '2,048 documents', '2 queries')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def out_of(done: int, total: int | None, noun: str) -> str:
    """Return how far something came.

    >>> out_of(3, 40, "document"), out_of(3, None, "document")
    ('3 of 40 documents', '3 documents')
    """
    return amount(done, noun) if total is None else f"{done:,} of {amount(total, noun)}"


def counted(items: Iterable[T], description: str, total: int | None = None) -> Generator[T, None, None]:
    """Pass the items on, counting them on stderr where that is a terminal and the work is long."""
    from trivec.support.progress import progress_bar  # loads tqdm, which `--help` must not

    with progress_bar(total, description, "documents", stderr.is_terminal) as progress:
        _bars[id(progress)] = progress
        try:
            for item in items:
                yield item
                progress.update()
        finally:
            _bars.pop(id(progress), None)


def _close_bars() -> None:
    """Leave bars as they stand, each on a line of its own."""
    while _bars:
        _bars.popitem()[1].close()


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
            except KeyboardInterrupt as interrupt:
                raise typer.Exit(interrupted(interrupt)) from None
            except BrokenPipeError:
                leave_with_the_reader()
            except (typer.Exit, typer.BadParameter):
                raise
            except Exception as error:  # the last place it can be caught; --debug shows all of it
                raise typer.Exit(_report(error)) from None

    return run


def interrupted(interrupt: KeyboardInterrupt) -> int:
    """Say that the command was stopped, and what its message says of how far it came; return the exit code."""
    _close_bars()
    terminated = isinstance(interrupt, Terminated)
    how = "terminated" if terminated else "interrupted"
    with suppress(OSError):  # the terminal may be gone
        say(f"{how}: {interrupt}" if str(interrupt) else how)
    return TERMINATED if terminated else INTERRUPTED


def _report(error: Exception) -> int:
    _close_bars()
    if _debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)
    message = with_option_names(" ".join(str(error).split()))
    if not isinstance(error, TrivecError | OSError | ValueError):
        message = f"{type(error).__name__}: {message} (--debug shows where)"
    _print(Text.assemble(("error: ", "bold red"), safe(message)))
    return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *_place: Any, **_more: Any) -> None:
    if issubclass(category, UserWarning):
        warn(with_option_names(str(message)))
