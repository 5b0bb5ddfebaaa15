"""The fingerprint of a model: one for one content, another for another, and hashed once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from random_checkpoint import write_random_checkpoint
from trivec import M3Model
from trivec.checkpoint import digests, open_checkpoint
from trivec.checkpoint.fingerprint import model_fingerprint
from trivec.errors import CheckpointError


def fingerprint(folder: Path) -> str:
    return model_fingerprint(open_checkpoint(folder))


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def test_the_content_decides_not_the_folder(tiny_checkpoint: Path, tiny_model: M3Model, copied: Path) -> None:
    assert tiny_model.fingerprint == fingerprint(tiny_checkpoint) == fingerprint(copied)
    assert len(tiny_model.fingerprint) == 64
    assert int(tiny_model.fingerprint, 16)


def test_it_is_the_same_in_every_version() -> None:
    """Collections keep it: a change of this value makes trivec refuse every collection of an earlier version."""
    nano = model_fingerprint(open_checkpoint("nano"))
    assert nano == "e17d1b70b0aa61f348270ec1a405c3e54dbc9daa3e158db324c3ecb9632b64d0"


def test_what_changes_no_vector_changes_nothing(copied: Path) -> None:
    before = fingerprint(copied)
    config = json.loads((copied / "config.json").read_text())
    config |= {"torch_dtype": "float16", "trivec": {"fusion_weights": [1, 2, 3]}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "notes.txt").write_text("mine")
    assert fingerprint(copied) == before


def edit(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


def flip_last_bit(file: Path) -> None:
    """In place; size and date stay as they were."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip_last_bit(folder / "model.safetensors"),
        lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " "),
        lambda folder: (folder / "sparse_linear.pt").unlink(),
        lambda folder: shutil.copy(write_random_checkpoint(folder / "other", seed=1) / "sparse_linear.pt", folder),
        lambda folder: shutil.copy(write_random_checkpoint(folder / "other", seed=1) / "colbert_linear.pt", folder),
        lambda folder: edit(folder, num_attention_heads=8),
        lambda folder: edit(folder, layer_norm_eps=1e-6),
    ],
    ids=["weights", "tokenizer", "no sparse head", "sparse head", "token head", "attention heads", "epsilon"],
)
def test_any_change_shows(change: Callable[[Path], object], copied: Path) -> None:
    before = fingerprint(copied)
    change(copied)
    assert fingerprint(copied) != before


def test_every_shard_counts(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "sharded", weights="model.safetensors.index.json")
    seen = {fingerprint(folder)}
    for number in (1, 2):
        flip_last_bit(folder / f"model-0000{number}-of-00002.safetensors")
        seen.add(fingerprint(folder))
    assert len(seen) == 3


@pytest.mark.parametrize("writable", [True, False])
def test_files_are_read_once(writable: bool, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    if not writable:
        cache.touch()  # a file: no folder can be made there
    monkeypatch.setenv("TRIVEC_CACHE", str(cache))
    read = []
    real = digests._sha256
    monkeypatch.setattr(digests, "_sha256", lambda file: read.append(file.name) or real(file))
    first = fingerprint(copied)
    everything = ["colbert_linear.pt", "model.safetensors", "sparse_linear.pt", "tokenizer.json"]
    assert sorted(read) == everything
    assert fingerprint(copied) == first
    if writable:
        monkeypatch.setattr(digests, "_of_this_process", {})  # another process
        assert fingerprint(copied) == first
    assert sorted(read) == everything


def test_files_that_are_gone_are_one_clear_error(copied: Path) -> None:
    opened = open_checkpoint(copied)
    (copied / "colbert_linear.pt").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read again.*colbert_linear\.pt"):
        model_fingerprint(opened)


@pytest.mark.parametrize("name", ["model.safetensors", "sparse_linear.pt", "tokenizer.json"])
def test_it_is_of_what_was_loaded_or_none(name: str, copied: Path, tmp_path: Path) -> None:
    """A model in memory must not take the name of the one that was trained into its folder meanwhile."""
    opened = open_checkpoint(copied)
    (write_random_checkpoint(tmp_path / "other", seed=1) / name).replace(copied / name)
    with pytest.raises(CheckpointError, match=rf"{name} has been replaced since .*load the model again"):
        model_fingerprint(opened)


def test_a_link_to_a_file_changes_nothing(copied: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(copied)
    before = model_fingerprint(opened)
    os.link(copied / "model.safetensors", tmp_path / "backup")
    assert model_fingerprint(opened) == before
