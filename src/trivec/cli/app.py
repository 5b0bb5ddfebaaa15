"""The command line as a whole: its commands, what `--help` says first, and `--debug`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import trivec
from trivec.cli import cache, collections, reporting, safe_text
from trivec.cli.download import download
from trivec.cli.encode import encode
from trivec.cli.eval import evaluate
from trivec.cli.explain import explain
from trivec.cli.import_folder import import_folder
from trivec.cli.index import index
from trivec.cli.info import info
from trivec.cli.mine import mine
from trivec.cli.search import search
from trivec.cli.serve import serve
from trivec.cli.train import train
from trivec.cli.verify import verify

app = typer.Typer(
    name="trivec",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Begin with:  [bold]trivec index notes/ --collection notes[/bold]  and then  "
        '[bold]trivec search "where was Turing born?" --collection notes[/bold]. '
        "Exit codes: 0 done, 1 failed or differs, 2 wrong usage, 130 interrupted."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"trivec {trivec.__version__}")
        except BrokenPipeError:
            reporting.leave_with_the_reader()
        raise typer.Exit


@app.callback()
def trivec_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the command line.")
    ] = False,
) -> None:
    """Turn text into BGE-M3's dense, sparse and token vectors, and search with them in Milvus."""
    reporting.set_debug(debug)


def _help(command: Callable[..., None]) -> str:
    """Return a command's docstring with each paragraph on one line, for the terminal to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


_COMMANDS: dict[str, Callable[..., None]] = {
    "index": index,
    "search": search,
    "serve": serve,
    "explain": explain,
    "encode": encode,
    "import": import_folder,
    "info": info,
    "download": download,
    "verify": verify,
    "eval": evaluate,
    "mine": mine,
    "train": train,
}
for name, command in _COMMANDS.items():
    app.command(name, help=_help(command))(reporting.reported(command))

_cache_app = typer.Typer(help="List or delete the converted models kept on disk.", no_args_is_help=True)
for name, command in {"list": cache.list_models, "clear": cache.clear}.items():
    _cache_app.command(name, help=_help(command))(reporting.reported(command))
app.add_typer(_cache_app, name="cache")

_collections_app = typer.Typer(help="List, describe or delete collections, or documents of one.", no_args_is_help=True)
_COLLECTIONS_COMMANDS: dict[str, Callable[..., None]] = {
    "list": collections.list_all,
    "info": collections.info,
    "drop": collections.drop,
    "delete": collections.delete,
}
for name, command in _COLLECTIONS_COMMANDS.items():
    _collections_app.command(name, help=_help(command))(reporting.reported(command))
app.add_typer(_collections_app, name="collections")


def run(arguments: list[str]) -> int:
    """Run one command line (without the program's name) and return the exit code."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--debug" in options:  # it belongs to `trivec`, but people add it to the end of what failed
        arguments = ["--debug", *(option for option in options if option != "--debug"), *arguments[len(options) :]]
    safe_text.settle_output()
    reporting.settle_broken_pipes()
    try:
        app(args=arguments, prog_name="trivec")
    except SystemExit as finished:
        return finished.code if isinstance(finished.code, int) else 0
    return 0
