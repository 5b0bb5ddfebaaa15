"""Every file format of a checkpoint gives the same vectors; every fault is one clear error."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.checkpoint import open_checkpoint
from trivec.errors import CheckpointError, MissingHeadError

TEXTS = [texts[0] for texts in SENTENCES.values()]


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "weights", ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.safetensors.index.json"]
)
def test_formats_agree(weights: str, tiny_model: M3Model, tmp_path: Path) -> None:
    with M3Model.load(write_random_checkpoint(tmp_path / "m", weights=weights), precision="fp32") as model:
        assert np.array_equal(model.encode(TEXTS).dense, tiny_model.encode(TEXTS).dense)


@pytest.mark.parametrize(("dtype", "error"), [("F16", 2e-3), ("BF16", 2e-2)])
@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.safetensors"])
def test_half_precision_weights_are_read(
    weights: str, dtype: str, error: float, tiny_model: M3Model, tmp_path: Path
) -> None:
    folder = write_random_checkpoint(tmp_path / "m", weights=weights, dtype=dtype)
    stored = open_checkpoint(folder).encoder
    exact = open_checkpoint(tiny_model.name).encoder
    for name, tensor in exact.items():
        assert stored[name].dtype == dtype
        assert np.abs(stored[name].float32() - tensor.float32()).max() <= error * np.abs(tensor.float32()).max()
    with M3Model.load(folder, precision="fp32") as model:
        assert (model.encode(TEXTS).dense * tiny_model.encode(TEXTS).dense).sum(axis=1).min() > 0.99


def test_names_with_a_task_prefix_are_found(copied: Path, tiny_model: M3Model) -> None:
    file = copied / "model.safetensors"
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = {f"roberta.{name}": entry for name, entry in json.loads(raw[8 : 8 + size]).items()}
    encoded = json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + raw[8 + size :])
    with M3Model.load(copied, precision="fp32") as model:
        assert np.array_equal(model.encode(TEXTS).dense, tiny_model.encode(TEXTS).dense)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("keep", [0.0, 0.00001, 0.3, 0.999])
def test_truncated_weights(weights: str, keep: float, tmp_path: Path) -> None:
    file = write_random_checkpoint(tmp_path / "m", weights=weights) / weights
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(CheckpointError, match=rf"{weights}.*download it again"):
        M3Model.load(file.parent)


def test_weights_whose_rest_is_zeros(copied: Path) -> None:
    """As a download leaves a file that reserved its space first; it would give vectors of zeros."""
    file = copied / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(CheckpointError, match=r"LayerNorm\.weight is all zeros.*download again"):
        M3Model.load(copied)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        M3Model.load(copied)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "m", weights="model.safetensors.index.json")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        M3Model.load(folder)


def test_index_that_leaves_the_folder_is_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../model.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="plain file names"):
        M3Model.load(copied)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "bert"}, "type 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"hidden_size": 64}, r"shape \(1005, 32\), expected \(1005, 64\)"),
        ({"num_hidden_layers": 3}, r"has 2 layers, config\.json says 3"),
        ({"num_hidden_layers": 1}, r"has 2 layers, config\.json says 1"),
        ({"num_hidden_layers": 10**9}, r"has 2 layers, config\.json says 1000000000"),
        ({"pad_token_id": 7}, r"has <pad> at 1, config\.json says pad_token_id 7"),
        ({"num_attention_heads": 5}, "not a multiple of num_attention_heads 5"),
        ({"max_position_embeddings": 3}, r"max_position_embeddings 3 leaves no position.*pad_token_id 1"),
    ],
)
def test_config_that_does_not_fit(copied: Path, values: dict[str, object], message: str) -> None:
    edit_config(copied, **values)
    with pytest.raises(CheckpointError, match=message):
        M3Model.load(copied)


SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
)
NO_NUMBERS = (True, 2.7, "4", None, [4], {}, float("inf"), float("nan"), -1, 10**30)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_whole_numbers(copied: Path, name: str) -> None:
    """A value that only looks like the right one (4.0, true where 1 stands) gives wrong vectors in silence."""
    right = json.loads((copied / "config.json").read_text())[name]
    for value in (*NO_NUMBERS, float(right), str(right)):
        edit_config(copied, **{name: value})
        with pytest.raises(CheckpointError, match=rf"config\.json has {name} = .*, expected a whole number"):
            open_checkpoint(copied)


@pytest.mark.parametrize(
    "value", [0, -1e-5, 1e30, 1e-300, float("inf"), float("nan"), "7", "1e-05", True, None, [1e-5]]
)
def test_the_epsilon_of_layer_norms_is_a_small_number(copied: Path, value: object) -> None:
    edit_config(copied, layer_norm_eps=value)
    with pytest.raises(CheckpointError, match=r"config\.json has layer_norm_eps = .*, expected a number from 1e-12"):
        open_checkpoint(copied)


@pytest.mark.parametrize(
    "own",
    ["x", [], 7, {"fusion_weights": "123"}, {"fusion_weights": [1, 2]}, {"fusion_weights": [1, True, 1]}]
    + [{"fusion_weights": [1, weight, 1]} for weight in (-1, float("nan"), float("inf"), "1", None)]
    + [{"fusion_weights": [0, 0, 0]}],
)
def test_fusion_weights_are_three_numbers(copied: Path, own: object) -> None:
    edit_config(copied, trivec=own)
    with pytest.raises(CheckpointError, match=r"config\.json has trivec = .*three numbers"):
        open_checkpoint(copied)


def test_a_message_about_nonsense_is_short(copied: Path) -> None:
    edit_config(copied, hidden_act="x" * 10**5, model_type="xlm-roberta")
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(copied)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe"])
def test_broken_config(copied: Path, content: bytes) -> None:
    (copied / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        M3Model.load(copied)


EVERY_FILE = ("config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt", "colbert_linear.pt")


@pytest.mark.parametrize("name", EVERY_FILE)
def test_git_lfs_pointer(copied: Path, name: str) -> None:
    (copied / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        M3Model.load(copied)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", EVERY_FILE)
def test_only_regular_files_are_read(copied: Path, name: str) -> None:
    """A pipe nobody writes to would be waited for without end, a device read until memory is full."""
    others = {
        "named pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
        "link to": lambda path: path.symlink_to("nowhere"),
    }
    for kind, make in others.items():
        if (copied / name).is_dir():
            (copied / name).rmdir()
        else:
            (copied / name).unlink()
        make(copied / name)
        with pytest.raises(CheckpointError, match=rf"{name} is a {kind}"):
            M3Model.load(copied)


def test_a_pipe_among_shards_is_refused(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "m", weights="model.safetensors.index.json")
    index = folder / "model.safetensors.index.json"
    for file in (folder / "model-00002-of-00002.safetensors", index):
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(CheckpointError, match=rf"{file.name} is a named pipe"):
            open_checkpoint(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "m", weights="model.safetensors.index.json")
    shutil.copyfile(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="another shard holds as well"):
        open_checkpoint(folder)


def test_tokenizer_of_another_model(copied: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((copied / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] += [[f"extra{i}", -20.0] for i in range(9)]
    tokenizer["added_tokens"][-1]["id"] += 9
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="pieces, the word-embedding table 1005 rows"):
        M3Model.load(copied)
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is no tokenizer"):
        M3Model.load(copied)


def test_without_heads_dense_works_and_the_rest_says_why(tmp_path: Path, tiny_model: M3Model) -> None:
    with M3Model.load(write_random_checkpoint(tmp_path / "m", heads=()), precision="fp32") as model:
        assert "colbert_vecs" not in model.dim
        dense = model.encode(TEXTS, return_sparse=False).dense
        assert np.array_equal(dense, tiny_model.encode(TEXTS).dense)
        with pytest.raises(MissingHeadError, match=r"no sparse_linear\.pt.*return_sparse=False"):
            model.encode(TEXTS)
        with pytest.raises(MissingHeadError, match=r"no colbert_linear\.pt.*return_colbert_vecs=False"):
            model.encode(TEXTS, return_sparse=False, return_colbert_vecs=True)


def test_head_of_another_size(copied: Path, tmp_path: Path) -> None:
    shutil.copyfile(copied / "colbert_linear.pt", copied / "sparse_linear.pt")
    with pytest.raises(CheckpointError, match=r"sparse_linear\.pt: weight has shape \(32, 32\), expected \(1, 32\)"):
        M3Model.load(copied)


def test_weights_that_give_nan_are_not_passed_on(copied: Path) -> None:
    file = copied / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-400:] = np.full(100, np.nan, np.float32).tobytes()
    file.write_bytes(raw)
    with M3Model.load(copied) as model, pytest.raises(Exception, match="not finite"):
        model.encode(TEXTS)


def test_paths_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        M3Model.load(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="no model folder"):
        M3Model.load(tmp_path)
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        M3Model.load(file)
