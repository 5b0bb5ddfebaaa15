"""A short option means the same in every command."""

import typer

from trivec.cli.app import app


def options(command, path=""):
    """Yield (command, long names, short names) of every option of the command line."""
    for name, sub in getattr(command, "commands", {}).items():
        yield from options(sub, f"{path} {name}".strip())
    for parameter in command.params:
        long = [name for name in parameter.opts if name.startswith("--")]
        if long:
            yield path, long, [name for name in parameter.opts if not name.startswith("--")]


def test_a_short_option_means_the_same_everywhere_and_its_long_one_has_it_everywhere():
    known = {}
    for _, long, short in options(typer.main.get_command(app)):
        for name in short:
            known.setdefault(name, set()).add(long[0])
    assert {name: longs for name, longs in known.items() if len(longs) > 1} == {}
    assert {"-m": {"--model"}, "-n": {"--limit"}, "-c": {"--collection"}, "-o": {"--out"}}.items() <= known.items()
    short_of = {long: name for name, longs in known.items() for long in longs}
    without = [(path, long[0]) for path, long, short in options(typer.main.get_command(app)) if not short]
    assert [(path, long) for path, long in without if long in short_of] == []
