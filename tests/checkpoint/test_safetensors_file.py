"""Safetensors files: what is written is read back, here and by the safetensors package, and costs no memory to keep."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trivec.checkpoint import StoredTensor, open_checkpoint
from trivec.checkpoint.safetensors_file import read_metadata, read_safetensors, write_safetensors
from trivec.errors import CheckpointError

RANDOM = np.random.default_rng(0)
# Sizes that leave the next tensor misaligned, and shapes at the edges.
TENSORS = {
    "quantized": StoredTensor(RANDOM.integers(-128, 128, (3, 5), dtype=np.int8), "I8"),
    "exact": StoredTensor(RANDOM.standard_normal((7, 3), dtype=np.float32), "F32"),
    "half": StoredTensor(RANDOM.standard_normal(9).astype(np.float16), "F16"),
    "bits": StoredTensor(RANDOM.integers(0, 1 << 16, (2, 3, 1), dtype=np.uint16), "BF16"),
    "number": StoredTensor(np.array(2.5, np.float32), "F32"),
    "transposed": StoredTensor(RANDOM.standard_normal((4, 6), dtype=np.float32).T, "F32"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_safetensors(tmp_path / "tensors.safetensors", TENSORS.items(), {"date": "today", "name": "ein Gerät"})
    return tmp_path / "tensors.safetensors"


def test_what_is_written_is_read(file: Path) -> None:
    stored = read_safetensors(file)
    assert list(stored) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert (stored[name].dtype, stored[name].data.dtype) == (tensor.dtype, tensor.data.dtype)
        assert stored[name].shape == tensor.shape
        assert np.array_equal(stored[name].data, tensor.data)
        assert stored[name].data.ctypes.data % 64 == 0
    assert read_metadata(file) == {"date": "today", "name": "ein Gerät"}


def test_the_safetensors_package_reads_it(file: Path) -> None:
    package = pytest.importorskip("safetensors")
    with package.safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == {"date": "today", "name": "ein Gerät"}
        assert set(TENSORS) <= set(opened.keys())
        for name in ("quantized", "exact", "half", "number", "transposed"):
            assert np.array_equal(opened.get_tensor(name), TENSORS[name].data)


def test_tensors_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    sizes = []

    def tensors() -> Iterator[tuple[str, StoredTensor]]:
        for number in range(3):
            sizes.append(path.stat().st_size)
            yield f"{number}", StoredTensor(np.zeros(1 << 20, np.float32), "F32")

    write_safetensors(path, tensors(), {})
    assert np.diff(sizes).min() >= 4 << 20


@pytest.mark.parametrize(
    "tensor", [StoredTensor(np.zeros(3, np.int64), "I64"), StoredTensor(np.zeros(3, np.float32), "F16")]
)
def test_tensors_that_could_not_be_read_are_not_written(tensor: StoredTensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="odd is"):
        write_safetensors(tmp_path / "t.safetensors", [("odd", tensor)], {})
    with pytest.raises(CheckpointError, match="safetensors"):
        read_safetensors(tmp_path / "t.safetensors")


def test_more_tensors_than_the_header_holds(tmp_path: Path) -> None:
    many = ((f"{i}" * 200, StoredTensor(np.zeros(1, np.int8), "I8")) for i in range(1000))
    with pytest.raises(ValueError, match="header of"):
        write_safetensors(tmp_path / "t.safetensors", many, {})


def test_a_checkpoint_of_quantized_weights_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    encoder = open_checkpoint(tiny_checkpoint).encoder
    name = "encoder.layer.0.output.dense.weight"
    quantized = StoredTensor(np.zeros(encoder[name].shape, np.int8), "I8")
    write_safetensors(folder / "model.safetensors", (dict(encoder) | {name: quantized}).items(), {})
    with pytest.raises(CheckpointError, match=rf"{name} is stored as I8, expected F32, F16 or BF16"):
        open_checkpoint(folder)


def two_tensors(path: Path, **changes: object) -> Path:
    """A file of two tensors of four float32 each, with `first`, `second` or the bytes of data changed."""
    entry = {"dtype": "F32", "shape": [2, 2]}
    header = {
        "first": entry | {"data_offsets": [0, 16]} | changes.get("first", {}),
        "second": entry | {"data_offsets": [16, 32]} | changes.get("second", {}),
    }
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(changes.get("size", 32)))
    return path


BROKEN = {
    "overlap": {"second": {"data_offsets": [12, 28]}, "size": 28},
    "same bytes": {"second": {"data_offsets": [0, 16]}, "size": 16},
    "gap": {"second": {"data_offsets": [20, 36]}, "size": 36},
    "gap before": {"first": {"data_offsets": [4, 20]}, "second": {"data_offsets": [20, 36]}, "size": 36},
    "more behind": {"size": 36},
    "less behind": {"size": 28},
    "wrong size": {"second": {"shape": [2, 1]}},
    "wrong size of a type not read": {"second": {"dtype": "I64"}},
    "negative sizes": {"second": {"shape": [-2, -2]}},
    "negative offset": {"first": {"data_offsets": [-16, 0]}, "second": {"data_offsets": [0, 32], "shape": [2, 4]}},
    "sizes with a fraction": {"second": {"shape": [2.5, 2]}},
    "offsets as text": {"second": {"data_offsets": ["16", "32"]}},
    "three offsets": {"second": {"data_offsets": [16, 24, 32]}},
    "true": {"second": {"shape": [2, 2, True]}},
}


@pytest.mark.parametrize("name", BROKEN)
def test_tensors_that_do_not_fill_the_file_are_refused(name: str, tmp_path: Path) -> None:
    assert list(read_safetensors(two_tensors(tmp_path / "good.safetensors"))) == ["first", "second"]
    with pytest.raises(CheckpointError, match=r"broken\.safetensors .*download it again"):
        read_safetensors(two_tensors(tmp_path / "broken.safetensors", **BROKEN[name]))


@pytest.mark.parametrize("name", BROKEN)
def test_the_safetensors_package_refuses_them_too(name: str, tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors")
    package.safe_open(two_tensors(tmp_path / "good.safetensors"), framework="numpy")
    with pytest.raises(package.SafetensorError):
        package.safe_open(two_tensors(tmp_path / "broken.safetensors", **BROKEN[name]), framework="numpy")


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = two_tensors(tmp_path / "t.safetensors")
    path.write_bytes(path.read_bytes().replace(b'"second"', b'"first" '))
    with pytest.raises(CheckpointError, match="there twice"):
        read_safetensors(path)


def test_a_header_too_large_for_a_model_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes((90_000_000).to_bytes(8, "little") + b"{")
    with path.open("r+b") as file:
        file.truncate(100_000_000)  # a hole, not data
    with pytest.raises(CheckpointError, match=r"header of 90,000,000 bytes"):
        read_safetensors(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_are_given_back(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from trivec.checkpoint import StoredTensor
        from trivec.checkpoint.safetensors_file import read_safetensors, write_safetensors
        from trivec.checkpoint.tensors import release_pages

        def mapped_mb():
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("RssFile")).split()[1]) // 1024

        path = Path(sys.argv[1])
        ones = StoredTensor(np.ones((5, 1 << 20), np.float32), "F32")
        write_safetensors(path, ((str(i), ones) for i in range(10)), {})
        tensors = read_safetensors(path)
        before = mapped_mb()
        assert sum(float(t.data.sum(dtype=np.float64)) for t in tensors.values()) == 50 << 20
        read = mapped_mb()
        release_pages([tensors["0"], tensors["1"]])
        assert 120 < mapped_mb() - before < 180, (before, mapped_mb())  # the others' stay
        release_pages([*tensors.values(), ones])
        assert read - before > 180, (before, read)
        assert mapped_mb() - before < 20, (before, mapped_mb())
        assert tensors["3"].data[4, -1] == 1 and ones.data[4, -1] == 1
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "large.safetensors")], check=True)
