"""Groups of options: what a command with them declares, and what it is given."""

from __future__ import annotations

import inspect
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from trivec.cli import options


@pytest.mark.parametrize(
    ("text", "names"),
    [(None, None), ("", None), ("cpu", ["cpu"]), (" cpu ", ["cpu"]), ("cuda:0, cuda:1", ["cuda:0", "cuda:1"])],
)
def test_devices_are_named_with_or_without_blanks(text: str | None, names: list[str] | None) -> None:
    assert options.device_names(text) == names
    assert options.ModelOptions(device=text).devices == names


def test_a_command_has_the_options_of_its_groups_and_its_own_declaration_of_one_wins() -> None:
    given = []

    @options.grouped
    def command(
        name: str,
        *,
        timeout: Annotated[float, typer.Option(help="Its own.")] = 5.0,
        milvus_options: options.MilvusOptions,
        last: bool = False,
    ) -> None:
        given.append((name, timeout, milvus_options, last))

    assert list(inspect.signature(command).parameters) == ["name", "timeout", "uri", "token", "db_name", "last"]
    app = typer.Typer()
    app.command()(command)
    for arguments in (["x"], ["x", "--db", "books", "--timeout", "7", "--last"]):
        assert CliRunner().invoke(app, arguments, env={"MILVUS_TOKEN": "secret"}).exit_code == 0
    assert given == [
        ("x", 5.0, options.MilvusOptions(token="secret", timeout=5.0), False),
        ("x", 7.0, options.MilvusOptions(token="secret", db_name="books", timeout=7.0), True),
    ]
