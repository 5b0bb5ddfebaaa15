"""The settings file that the documentation shows: every setting is there, with its default, and the shell takes it."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'trivec[train]'")

from trivec.cli.settings_file import of, read_settings
from trivec.cli.train import train
from trivec.training.losses import LossSettings
from trivec.training.trainer import TrainingSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_documented_settings_are_all_there_are(tmp_path: Path) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## A settings file")[2]
    shown = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert shown
    file = tmp_path / "settings.json"
    file.write_text(shown[1])
    options = inspect.signature(train).parameters
    values = read_settings(file, LossSettings, TrainingSettings, but=options)
    settable = {field.name for kind in (LossSettings, TrainingSettings) for field in fields(kind)} - {"loss", *options}
    assert set(json.loads(shown[1])) == settable
    assert LossSettings(**of(LossSettings, values)) == LossSettings()
    loss = LossSettings()
    documented = TrainingSettings(steps=10, learning_rate=1e-5, loss=loss, **of(TrainingSettings, values))
    assert documented == TrainingSettings(steps=10, learning_rate=1e-5, loss=loss, warmup_steps=documented.warmup_steps)
