"""A model's fusion weights in its folder: config.json holds them as `{"trivec": {"fusion_weights": [d, s, m]}}`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trivec.errors import CheckpointError, TrivecError
from trivec.search.fusion import FusionWeights
from trivec.support.arguments import checked_weights
from trivec.support.part_files import cannot_write, replacing


def checked_fusion_weights(weights: Sequence[float]) -> FusionWeights:
    """Make sure of three finite weights of at least 0, of which dense and sparse are not both 0: `dense+sparse` is one.

    Raises:
        ValueError: They are not; the message shows them.
    """
    dense, sparse, multi_vector = checked_weights(weights, name="fusion weights", needed=2)
    return dense, sparse, multi_vector


def store_fusion_weights(folder: str | Path, weights: Sequence[float]) -> None:
    """Write fusion weights into the config.json of a model folder, leaving everything else in it as it is.

    Raises:
        ValueError: The weights are not as `checked_fusion_weights` asks.
        TrivecError: `folder` is no local model folder that may be written.
    """
    path = Path(folder) / "config.json"
    checked = checked_fusion_weights(weights)
    if not path.is_file():
        raise TrivecError(f"{folder} is no model folder: copy the model into one, to keep fusion weights in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.setdefault("trivec", {})["fusion_weights"] = list(checked)
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is not a config that fusion weights can be added to: {error}") from error
    try:
        with replacing(path) as part:
            part.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            part.chmod(path.stat().st_mode & 0o777)
    except OSError as error:
        raise cannot_write(path, error) from error
