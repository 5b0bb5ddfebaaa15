"""The losses of a run as a picture (needs matplotlib, which the extra `[train]` brings)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from trivec.training.run_folder import EVALUATION_LOG, LOG

# Each point is the mean of so many steps at most, and a curve has about so many points.
POINTS = 150


def plot_run(folder: Path, picture: Path) -> None:
    """Draw the losses of each head and, beside them, the figures on held-out data.

    Args:
        folder: Folder of the run, with its CSV logs.
        picture: File to write; its ending chooses the format (.svg, .png).
    """
    from matplotlib.figure import Figure  # slow to import

    steps = _columns(folder / LOG)
    evaluations = _columns(folder / EVALUATION_LOG) if (folder / EVALUATION_LOG).exists() else {}
    figure = Figure(figsize=(10 if evaluations else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if evaluations else 1, squeeze=False)[0]
    for name in [name for name in steps if name.startswith("loss_")]:
        axes[0].plot(*_smoothed(steps["step"], steps[name]), label=name.removeprefix("loss_"))
    axes[0].set(xlabel="step", ylabel="InfoNCE", title="Losses", ylim=(0, None))
    axes[0].legend()
    for name in [name for name in evaluations if name.startswith("ndcg@10")]:
        axes[1].plot(evaluations["step"], evaluations[name], marker="o", label=name.removeprefix("ndcg@10 "))
    if evaluations:
        axes[1].set(xlabel="step", ylabel="nDCG@10", title="Held-out examples")
        axes[1].legend()
    figure.savefig(picture)


def _columns(file: Path) -> dict[str, np.ndarray]:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    names = [name for name in rows[0] if name != "source"] if rows else []
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def _smoothed(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = max(1, len(steps) // POINTS)
    whole = len(steps) // width * width
    return steps[:whole].reshape(-1, width).mean(1), np.nanmean(values[:whole].reshape(-1, width), axis=1)
