"""What `--help` shows, for every command there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from trivec.cli.app import app, run


def commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group: its words, and what click knows of it."""
    yield names, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)


COMMANDS = list(commands(typer.main.get_command(app)))


def test_all_commands_are_found():
    assert {("train",), ("eval",), ("cache", "clear"), ()} <= {names for names, _ in COMMANDS}


@pytest.mark.parametrize(("names", "command"), COMMANDS, ids=[" ".join(("trivec", *names)) for names, _ in COMMANDS])
def test_no_option_name_is_cut_at_80_columns(names, command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert run([*names, "--help"]) == 0
    shown = set(capsys.readouterr().out.replace("\u2502", " ").split())
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    assert {name for option in options for name in (*option.opts, *option.secondary_opts)} - shown == set()


@pytest.mark.parametrize("command", ["eval", "mine", "train"])
def test_help_of_the_longer_commands_has_examples(command, capsys):
    assert run([command, "--help"]) == 0
    assert f"trivec {command} " in capsys.readouterr().out.split("Examples:")[1]
