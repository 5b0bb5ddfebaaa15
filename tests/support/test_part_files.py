"""Files appear whole or not at all; what killed processes leave goes, what live ones write stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trivec.support import part_files
from trivec.support.part_files import remove_leftovers, replacing

WRITER = """
import sys, time
from pathlib import Path
from trivec.support import part_files
from trivec.support.part_files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    print(part.name, flush=True)
    input()
"""


@pytest.fixture
def writer(tmp_path):
    """Start processes that stand in the middle of writing a file; give (process, part file)."""
    started = []

    def start(name):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process, tmp_path / process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_once_it_is_whole(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with replacing(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["x.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_what_a_killed_process_left_goes_and_what_a_live_one_writes_stays(tmp_path, writer):
    dead, left = writer("x.bin")
    live, kept = writer("x.bin")
    _, others = writer("y.bin")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    not_ours = [".x.bin.1234.part", ".x.bin.part", "x.bin.0123456789abcdef.part", ".xxbin.0123456789abcdef.part"]
    for name in not_ours:
        (tmp_path / name).write_bytes(b"another program's")
    with replacing(tmp_path / "x.bin") as part:
        part.write_bytes(b"ours")
    assert not left.exists()
    assert names(tmp_path) == sorted(["x.bin", kept.name, others.name, *not_ours])
    live.communicate("go on\n")
    assert live.returncode == 0
    assert (tmp_path / "x.bin").read_bytes() == b"half"  # the live one finished after us


def test_leftovers_can_be_removed_without_writing(tmp_path, writer):
    dead, also_dead, _live = [writer("x.bin")[0] for _ in range(3)]
    for process in (dead, also_dead):
        process.kill()
        process.wait()
    assert remove_leftovers(tmp_path / "x.bin") == 2
    assert remove_leftovers(tmp_path / "x.bin") == 0
    assert len(names(tmp_path)) == 1
    assert remove_leftovers(tmp_path / "no" / "folder.bin") == 0


def test_a_link_with_the_name_of_a_part_file_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    link = tmp_path / ".x.bin.0123456789abcdef.part"
    link.symlink_to("precious")
    with replacing(tmp_path / "x.bin") as part:
        part.write_bytes(b"new")
    assert names(tmp_path) == sorted([link.name, "precious", "x.bin"])
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.slow
def test_many_writers_and_cleaners_at_once_lose_nothing(tmp_path):
    code = """
import sys
from pathlib import Path
from trivec.support import part_files
from trivec.support.part_files import remove_leftovers, replacing
path = Path(sys.argv[1])
for _ in range(300):
    with replacing(path) as part:
        part.write_bytes(b"whole")
    remove_leftovers(path)
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.bin")]) for _ in range(4)]
    assert [process.wait(120) for process in running] == [0, 0, 0, 0]
    assert names(tmp_path) == ["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"whole"


def test_ctrl_c_at_any_step_leaves_nothing_behind(tmp_path):
    path = tmp_path / "x.bin"
    steps = 0

    def profile(frame, event, _argument):  # Python looks for signals where these events are
        nonlocal steps
        if event in ("call", "c_return") and frame.f_code.co_filename == part_files.__file__:
            steps += 1
            if steps == at:
                raise KeyboardInterrupt

    for at in range(1, 1000):
        steps = 0
        sys.setprofile(profile)
        try:
            with replacing(path) as part:
                part.write_bytes(b"new")
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        assert names(tmp_path) in ([], ["x.bin"])
        if steps < at:
            break
    assert at > 10
    assert names(tmp_path) == ["x.bin"]
