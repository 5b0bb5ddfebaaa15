"""What a run was begun with: model and data by their content, and the settings. A checkpoint goes on with nothing else.

The record lies in the run's folder, for people to read too. Left out is what decides how a step is computed and not
what comes out of it: the device, parts of a batch, recomputed activations, and how often a checkpoint is saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from trivec.training.run_folder import RunFolder, TrainingError
from trivec.training.trainer import TrainingSettings

INPUTS = "inputs.json"
_HOW_NOT_WHAT = ("part_size", "checkpoint_gradients", "save_every", "loss")  # the loss is spread out instead
_FILES_SHOWN = 3


@dataclass(frozen=True)
class Content:
    """A model or a file.

    Attributes:
        name: What the user calls it; the same content under another name is the same.
        sha256: Its content, in hexadecimal.
    """

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256[:12]})"


@dataclass(frozen=True)
class RunInputs:
    """All that decides the result of a run.

    Attributes:
        model: The model to start from.
        data: The files of training data, in order.
        held_out: The file to evaluate on; None without one.
        settings: Name to value, in JSON's types.
    """

    model: Content
    data: tuple[Content, ...]
    held_out: Content | None
    settings: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """The inputs as they are stored."""
        return {
            "model": asdict(self.model),
            "data": [asdict(file) for file in self.data],
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunInputs:
        """The inputs that `record` gave.

        Raises:
            KeyError, TypeError: It is no such record.
        """
        held_out = record["held_out"]
        return cls(
            Content(**record["model"]),
            tuple(Content(**file) for file in record["data"]),
            None if held_out is None else Content(**held_out),
            dict(record["settings"]),
        )


def settings_record(settings: TrainingSettings, batches: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a result depends on, by name, in JSON's types.

    Args:
        settings: How to optimise, with bfloat16 decided.
        batches: How batches are cut from the data.
    """
    values = {name: value for name, value in asdict(settings).items() if name not in _HOW_NOT_WHAT}
    values |= {f"loss {name}" if name == "heads" else name: value for name, value in asdict(settings.loss).items()}
    found: dict[str, Any] = json.loads(json.dumps({**values, **batches}))
    return found


def begin_or_resume(folder: RunFolder, inputs: RunInputs) -> None:
    """Record what a run is begun with, or make sure that the run to go on with was begun with the same.

    Raises:
        TrainingError: The folder's checkpoint is of a run with other inputs, or of one that did not record them.
    """
    file = folder.path / INPUTS
    if folder.has_checkpoint:
        remedy = f"choose another folder for the result, or delete {folder.path} to begin anew"
        then = None
        with suppress(OSError, ValueError, KeyError, TypeError):
            then = RunInputs.from_record(json.loads(file.read_text(encoding="utf-8")))
        if then is None:
            raise TrainingError(
                f"{folder.path} holds the checkpoint of a run, but no {INPUTS} that says what it was begun with, so it "
                f"cannot go on: {remedy}"
            )
        if found := differences(then, inputs):
            raise TrainingError(
                f"{folder.path} holds a run that was begun with something else, so it cannot go on: "
                f"{'; '.join(found)}. Give the same again, {remedy}"
            )
        return
    folder.write_text(INPUTS, json.dumps(inputs.record(), indent=2, ensure_ascii=False) + "\n")


def differences(then: RunInputs, now: RunInputs) -> list[str]:
    """Say what differs between two runs' inputs, each with both values; nothing if they are the same."""
    found = []
    if then.model.sha256 != now.model.sha256:
        found.append(f"the model was {then.model} and is {now.model}")
    if [file.sha256 for file in then.data] != [file.sha256 for file in now.data]:
        old, new = _only(then.data, now.data), _only(now.data, then.data)
        if not (old and new):  # files more or fewer, or in another order: the lists as they are
            old, new = list(then.data), list(now.data)
        found.append(f"the data was {_listed(old)} and is {_listed(new)}")
    held_out = [None if each is None else each.sha256 for each in (then.held_out, now.held_out)]
    if held_out[0] != held_out[1]:
        found.append(f"the held-out data was {then.held_out or 'none'} and is {now.held_out or 'none'}")
    for name in dict.fromkeys((*then.settings, *now.settings)):
        before, after = then.settings.get(name), now.settings.get(name)
        if before != after:
            found.append(f"{name.replace('_', ' ')} was {_shown(before)} and is {_shown(after)}")
    return found


def _only(files: Sequence[Content], others: Sequence[Content]) -> list[Content]:
    elsewhere = {file.sha256 for file in others}
    return [file for file in files if file.sha256 not in elsewhere]


def _listed(files: Sequence[Content]) -> str:
    more = f" and {len(files) - _FILES_SHOWN} more files" if len(files) > _FILES_SHOWN else ""
    return ", ".join(map(str, files[:_FILES_SHOWN])) + more


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
