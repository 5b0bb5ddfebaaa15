"""Training that is killed in the middle of writing: what it leaves, and what the next run makes of it."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'trivec[train]'")

from trivec.training.fine_tune import BatchSettings, fine_tune
from trivec.training.trainer import TrainingError, TrainingSettings

# Runs `trivec train`, which stops at the place that is told, as a slow disk might make it, and says so.
SLOW_DISK = """
import sys, time
import torch
from trivec.cli import main

wanted = sys.argv.pop(1)

def slow_save(state, path, save=torch.save):
    if wanted in str(path):
        path.write_bytes(b"half a file")
        print("writing", path.name, flush=True)
        time.sleep(600)
    save(state, path)

torch.save = slow_save
main()
"""
RESULT = {"config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt", "colbert_linear.pt", "run"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"query": f"boat {i}", "pos": [f"a boat on lake {i}"]}) for i in range(8)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def train(tiny_checkpoint: Path, data: Path, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a training that hangs in writing the file whose name is given."""
    started = []

    def start(name: str) -> subprocess.Popen[str]:
        command = [
            "train",
            data,
            "--model",
            tiny_checkpoint,
            "--out",
            tmp_path / "out",
            "--steps",
            4,
            "--save-every",
            2,
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_DISK, name, *map(str, command), "--batch-size", "4", "--group-size", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("writing")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.part"))


def run_again(model: Path, data: Path, out: Path):
    settings = TrainingSettings(steps=4, save_every=2, bf16=None)
    cut = BatchSettings(batch_size=4, group_size=1)
    return fine_tune(model, [data], out, settings, batches=cut, show_progress=False)


@pytest.mark.parametrize("file", ["checkpoint.pt", "sparse_linear.pt"])
def test_what_a_killed_run_had_begun_to_write_is_removed_by_the_next(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, train, file: str
):
    process = train(file)
    process.kill()
    process.wait()
    assert len(parts(tmp_path / "out")) == 1
    run_again(tiny_checkpoint, data, tmp_path / "out")
    assert parts(tmp_path / "out") == []
    assert {path.name for path in (tmp_path / "out").iterdir()} >= RESULT


def test_a_run_that_is_alive_keeps_others_out_and_what_it_writes(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, train
):
    train("checkpoint.pt")
    (half,) = parts(tmp_path / "out")
    with pytest.raises(TrainingError, match=r"another process is training into .*out.run"):
        run_again(tiny_checkpoint, data, tmp_path / "out")
    assert parts(tmp_path / "out") == [half]
    assert half.read_bytes() == b"half a file"


def test_where_the_file_system_has_no_locks_a_run_warns_and_goes_on(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "flock is not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.warns(UserWarning, match="lock"):
        run_again(tiny_checkpoint, data, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= RESULT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("checkpoint.pt", "nothing was kept yet, as no checkpoint was written"),
        ("sparse_linear.pt", "the same command goes on from the checkpoint in"),
    ],
)
def test_a_run_that_is_asked_to_end_leaves_no_half_file_and_says_how_to_go_on(
    tmp_path: Path, train, number: signal.Signals, file: str, told: str
):
    process = train(file)
    assert len(parts(tmp_path / "out")) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert parts(tmp_path / "out") == []
    assert "Traceback" not in errors
    assert told in errors
