"""A hostile `.bin` or `.pt` file executes nothing: each payload would leave a mark on disk if it ran."""

from __future__ import annotations

import builtins
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest

from trivec import M3Model
from trivec.checkpoint.torch_file import read_torch_file
from trivec.errors import CheckpointError


class Reduces:
    """Pickles to a call of `function(*args)`, and optionally a state set on the result."""

    def __init__(self, function: object, *args: object, state: object = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced


def payloads(mark: Path) -> dict[str, bytes]:
    command = f"touch {mark}"
    python = f"open({str(mark)!r}, 'w').close()"
    # Names a nested attribute of an admitted global, as protocol 4 allows.
    nested = b"\x80\x04\x8c\x0bcollections\x8c\x1bOrderedDict.fromkeys.__self__\x93)R."
    # An extension code, resolved by copyreg's registry instead of by name.
    extension = b"\x80\x02\x82\x01."
    # An admitted rebuilder whose state (`__class__`, `__code__`, ...) is set by BUILD.
    build = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(X\x08\x00\x00\x00__code__Nub."
    slots = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}(X\x06\x00\x00\x00_buildNu\x86b."
    instance = f"(S'{command}'\nios\nsystem\n.".encode()
    return {
        "os.system": pickle.dumps(Reduces(os.system, command)),
        "os.system, protocol 0": pickle.dumps(Reduces(os.system, command), protocol=0),
        "eval": pickle.dumps(Reduces(eval, python)),
        "exec in a dict": pickle.dumps(OrderedDict(weight=Reduces(exec, python))),
        "subprocess": pickle.dumps(Reduces(__import__("subprocess").check_call, ["touch", str(mark)])),
        "getattr chain": pickle.dumps(Reduces(getattr, Reduces(__import__, "os"), "system")),
        "builtins.open": pickle.dumps(Reduces(builtins.open, str(mark), "w")),
        "numpy loader": b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00x\x85R.",
        "torch.load": b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R.",
        "storage name with a dot": b"\x80\x02ctorch\nFloatStorage.__class__\n)R.",
        "old INST opcode": instance,
        "nested attribute": nested,
        "extension code": extension,
        "state on a rebuilder": build,
        "slot state on a rebuilder": slots,
    }


NAMES = sorted(payloads(Path("x")))


def write_archive(path: Path, stream: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream)
        archive.writestr("archive/data/0", bytes(4096))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_payload_is_refused_and_not_executed(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is (not safe|damaged)"):
        read_torch_file(write_archive(tmp_path / "pytorch_model.bin", payloads(mark)[name]))
    assert not mark.exists()


def test_the_payloads_do_harm_elsewhere(tmp_path: Path) -> None:
    """Proof that the test above can fail: a plain unpickler runs them."""
    for number, name in enumerate(["os.system", "os.system, protocol 0", "exec in a dict", "old INST opcode", "eval"]):
        mark = tmp_path / str(number)
        pickle.loads(payloads(mark)[name])
        assert mark.exists(), name


def test_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "sparse_linear.pt", pickle.dumps(Reduces(os.system, "true")))
    with pytest.raises(CheckpointError, match=r"sparse_linear\.pt is not safe: its pickle asks for (posix|nt)\.system"):
        read_torch_file(path)


def test_hostile_head_stops_the_load(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    write_archive(folder / "sparse_linear.pt", payloads(tmp_path / "executed")["os.system"])
    with pytest.raises(CheckpointError, match="not safe"):
        M3Model.load(folder)
    assert not (tmp_path / "executed").exists()


def test_bare_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Reduces(os.system, f"touch {tmp_path / 'executed'}"), protocol=2))
    with pytest.raises(CheckpointError, match=r"format of torch < 1\.6"):
        read_torch_file(path)
    assert not (tmp_path / "executed").exists()


def tensor(offset: int, size: int, stride: int, key: str = "0") -> bytes:
    """A pickle of one float32 tensor over the archive's only storage, of 1,024 elements."""

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    reference = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key.encode() + b"X\x03\x00\x00\x00cpu"
    )
    reference += number(1024) + b"tQ"
    rebuilt = b"(" + reference + number(offset) + number(size) + b"\x85" + number(stride) + b"\x85\x89Nt"
    return b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"Rs."


def test_tensors_stay_inside_their_storage(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    assert read_torch_file(write_archive(path, tensor(24, 500, 2)))["w"].shape == (500,)
    for stream in (tensor(24, 501, 2), tensor(-1, 4, 1), tensor(0, 4, -1), tensor(0, 1, 1, "7")):
        with pytest.raises(CheckpointError, match="damaged"):
            read_torch_file(write_archive(path, stream))
