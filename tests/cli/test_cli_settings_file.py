"""A file of settings gives what it says, or one line says what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer

from trivec.cli.settings_file import of, read_settings


@dataclass(frozen=True)
class Loss:
    weights: tuple[float, float] = (1.0, 1.0)
    start: int = 0


@dataclass(frozen=True)
class Run:
    steps: int = 1
    decay: float = 0.1
    limit: float | None = None
    fast: bool | None = None
    loss: Loss = field(default_factory=Loss)


def test_values_go_to_the_fields_of_their_name(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"weights": [1, 0.5], "decay": 1, "limit": null, "fast": true}')
    values = read_settings(file, Loss, Run, but=["steps"])
    assert Loss(**of(Loss, values)) == Loss(weights=(1, 0.5))
    assert Run(**of(Run, values)) == Run(decay=1, fast=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"weight": [1, 1]}', "no setting 'weight': there are weights, start, decay, limit, fast"),
        ('{"steps": 2}', "no setting 'steps': it is the option --steps; there are"),
        ('{"loss": {}}', "no setting 'loss': there are"),
        ('{"weights": [1]}', r"weights must be a list of 2 numbers, not \[1\]"),
        ('{"weights": [1, true]}', "weights must be a list of 2 numbers"),
        ('{"start": 1.5}', "start must be a whole number, not 1.5"),
        ('{"start": true}', "start must be a whole number, not true"),
        ('{"limit": "x"}', 'limit must be a number, or null, not "x"'),
        ('{"fast": 1}', "fast must be true or false, or null, not 1"),
        ("[1]", "a list, not a JSON object"),
        ("{\n", "not JSON: Expecting property name enclosed in double quotes at line 2, column 1"),
        ("[" * 100_000, "lists or objects are nested too deeply"),
        ('{"start": 1, "start": 2}', "it names the field 'start' twice"),
    ],
    ids=lambda text: text[:20],
)
def test_what_cannot_be_a_setting_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "s.json"
    file.write_text(text)
    with pytest.raises(typer.BadParameter, match=said) as refused:
        read_settings(file, Loss, Run, but=["steps"])
    assert "\n" not in str(refused.value)
