"""What the tests of several commands share."""

import pytest

from trivec.cli.app import run


@pytest.fixture
def trivec_command(monkeypatch, tmp_path, capsys):
    """Run a command line in an empty folder and return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call
