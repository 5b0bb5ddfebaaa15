"""What the library says of its arguments, the shell hears as options; everything else stays as it is."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from trivec.cli import option_names
from trivec.cli.app import app
from trivec.cli.option_names import with_option_names


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("set local_files_only=True to stay offline", "set --offline to stay offline"),
        ("switch this off with use_cache=False", "switch this off with --no-cache"),
        ('precision="int8" needs VNNI: use "fp32"', '--precision int8 needs VNNI: use "fp32"'),
        ("device='gpu' is not available", "--device gpu is not available"),
        ("device='' is not available", "--device '' is not available"),
        ("max_length=1 must lie between 2 and 8192", "--max-length 1 must lie between 2 and 8192"),
        ("num_threads=-1 must be at least 1", "--threads -1 must be at least 1"),
        ('use engine="torch"', "use --engine torch"),
        ("/data/limit=3/x.txt is no model", "/data/limit=3/x.txt is no model"),
        ("my_device='x' and limits=3", "my_device='x' and limits=3"),
        ("", ""),
    ],
)
def test_arguments_become_options(said: str, heard: str) -> None:
    assert with_option_names(said) == heard


def test_every_option_named_is_one_of_a_command() -> None:
    there = {
        option
        for command in get_command(app).commands.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = {*option_names._FLAGS.values(), *option_names._OPTIONS.values()}
    assert named <= there
    assert all(re.fullmatch(r"--[a-z-]+", option) for option in named)
