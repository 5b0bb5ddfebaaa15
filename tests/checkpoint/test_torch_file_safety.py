"""A hostile `.bin` or `.pt` file executes nothing: each payload would leave a mark on disk if it ran."""

from __future__ import annotations

import builtins
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest

from random_checkpoint import write_random_checkpoint
from trivec import M3Model
from trivec.checkpoint import torch_file
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


BOMBS = {
    # Fills a memo of 2 ** 31 places for one number.
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    # Tuples of the one before twice: its hash, or its text in a message, takes 2 ** 200 steps.
    "nested tuple as a key": b"\x80\x02})" + b"2\x86" * 200 + b"Ns.",
    "nested tuple through the memo": b"\x80\x02})" + b"q\x01h\x01\x86" * 200 + b"Ns.",
    "nested tuple as a reference": b"\x80\x02)" + b"q\x01h\x01\x86" * 200 + b"Q.",
    "nested tuple as a shape": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)" + b"q\x01h\x01\x86" * 200 + b"\x85R.",
    # Copies of a dict, each a few bytes in the stream.
    "copies": b"\x80\x02ccollections\nOrderedDict\nq\x00}("
    + b"".join(b"M%c%cN" % (i % 256, i // 256) for i in range(9999))
    + b"u\x85q\x01"
    + b"h\x00h\x01R" * 9999
    + b".",
    "lists in lists": b"\x80\x02" + b"](" * 160_000 + b"e" * 160_000 + b".",
    "a number of 100,000 digits": b"\x80\x02\x8b\x00\x00\x01\x00" + b"\xff" * 65_536 + b".",
    "more bytes than there are": b"\x80\x04\x96\x00\x00\x00\x00\xff\x00\x00\x00.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_cost_more_than_they_weigh_are_refused(name: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "sparse_linear.pt", BOMBS[name])
    with pytest.raises(CheckpointError, match=r"sparse_linear\.pt (is damaged|holds a)") as refused:
        read_torch_file(path)
    assert len(str(refused.value)) < 500


# Loads the model argv[1], which is refused, and prints the peak of memory that this took beyond what was held before.
# Linux counts the peak of `getrusage` on from the process that started this one, so it is read where it is not.
REFUSAL = """
import sys
from pathlib import Path
from trivec import M3Model
from trivec.engines.openvino import engine as openvino_engine
from trivec.errors import CheckpointError

def mb(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) // 1024

before = mb("VmRSS")
try:
    M3Model.load(sys.argv[1])
except CheckpointError as error:
    print(mb("VmHWM") - before, error)
"""


def peak_of_refusing(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-c", REFUSAL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    peak, message = done.stdout.split(" ", 1)
    return int(peak), message


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
@pytest.mark.parametrize("member", ["data.pkl", "data/0", "byteorder", "other"])
@pytest.mark.parametrize("weights", ["sparse_linear.pt", "pytorch_model.bin"])
def test_a_zip_bomb_is_refused_before_it_is_inflated(weights: str, member: str, tmp_path: Path) -> None:
    """A quarter of a gigabyte of zeros in a megabyte."""
    folder = write_random_checkpoint(tmp_path / "m", weights="pytorch_model.bin")
    names = [name for name in zipfile.ZipFile(folder / weights).namelist() if not name.endswith(f"/{member}")]
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        with bomb.open(f"archive/{member}", "w", force_zip64=True) as inflated:
            for _ in range(256):
                inflated.write(bytes(1 << 20))
        with zipfile.ZipFile(folder / weights) as good:
            for name in names:
                bomb.writestr(name, good.read(name), zipfile.ZIP_STORED)
    shutil.move(tmp_path / "bomb", folder / weights)
    peak, message = peak_of_refusing(folder)
    assert "is compressed in it" in message
    assert peak <= 100


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
def test_a_directory_of_millions_is_refused_unread(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "m")
    with zipfile.ZipFile(folder / "sparse_linear.pt", "w") as archive:
        for number in range(50_000):
            archive.writestr(f"{number}", b"")
    peak, message = peak_of_refusing(folder)
    assert "its directory has" in message
    assert peak <= 100


@pytest.mark.parametrize("weights", ["sparse_linear.pt", "colbert_linear.pt", "pytorch_model.bin"])
def test_a_flipped_bit_is_noticed(weights: str, tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "m", weights="pytorch_model.bin")
    content = (folder / weights).read_bytes()
    with zipfile.ZipFile(folder / weights) as archive:
        begin = archive.getinfo("archive/data/0").header_offset + 30 + len("archive/data/0")
    for offset, bit in ((0, 0), (3, 6), (7, 3)):
        flipped = bytearray(content)
        flipped[begin + offset] ^= 1 << bit
        (folder / weights).write_bytes(flipped)
        with pytest.raises(CheckpointError, match=rf"{weights} is truncated.*CRC-32.*download it again"):
            M3Model.load(folder)


def test_a_large_file_is_compared_with_its_checksums_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "_QUICKLY_READ", 0)
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "pytorch_model.bin"
    write_archive(path, tensor(0, 4, 1))
    read_torch_file(path)
    opened = []
    real = zipfile.ZipFile.open
    monkeypatch.setattr(
        zipfile.ZipFile, "open", lambda self, name, *args: opened.append(name) or real(self, name, *args)
    )
    read_torch_file(path)
    assert [getattr(name, "filename", name) for name in opened] == ["archive/data.pkl"]
    flipped = bytearray(path.read_bytes())
    flipped[flipped.rindex(bytes(64))] ^= 1
    path.write_bytes(flipped)
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(CheckpointError, match="CRC-32"):
            read_torch_file(path)
