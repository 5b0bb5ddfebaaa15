"""Ctrl-C, SIGTERM and terminals: whenever they come, a command ends with one line and the right code."""

import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sample_texts import SENTENCES

TEXTS = [text for language in SENTENCES.values() for text in language]

# Sends the process a real signal while a certain module is being imported.
SIGNAL_IN_IMPORT = """
import os, sys
module, number, *sys.argv[1:] = sys.argv[1:]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Finder())
from trivec.cli import main
main()
"""


@pytest.fixture
def notes(tmp_path):
    lines = [json.dumps({"text": TEXTS[i % len(TEXTS)], "i": i}) for i in range(20_000)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module",
    ["trivec.cli.app", "typer", "rich.text", "trivec.model", "numpy.linalg", "trivec.engines.selection", "tokenizers"],
)
def test_a_signal_while_something_is_imported(notes, tiny_checkpoint, module, number):
    arguments = ["encode", "notes.jsonl", "--out", "x.npz", "-m", str(tiny_checkpoint)]
    command = [sys.executable, "-c", SIGNAL_IN_IMPORT, module, str(int(number)), *arguments]
    done = subprocess.run(command, cwd=notes, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number
    told = "interrupted" if number == signal.SIGINT else "terminated"
    assert done.stderr == "" or done.stderr.startswith(told), done.stderr
    assert done.stderr.count("\n") <= 1
    assert [path.name for path in notes.iterdir()] == ["notes.jsonl"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [[sys.executable, "-m", "trivec"], [str(Path(sys.executable).with_name("trivec"))]])
def test_ctrl_c_at_any_moment_gives_no_traceback(notes, tiny_checkpoint, command):
    generator = random.Random(3)
    for _ in range(20):
        arguments = ["encode", "notes.jsonl", "--out", "x.npz", "--force", "-m", str(tiny_checkpoint)]
        running = subprocess.Popen(
            [*command, *arguments], cwd=notes, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # Python itself needs the first moments to start, which are not ours.
        time.sleep(generator.uniform(0.12, 3))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
        assert out == ""
        assert "Traceback" not in err, err
        assert running.returncode in (130, -signal.SIGINT, 0)
        assert not list(notes.glob(".*.part"))


@pytest.mark.slow
def test_a_second_ctrl_c_right_after_the_first_gives_no_traceback(notes, tiny_checkpoint):
    generator = random.Random(9)
    arguments = ["encode", "notes.jsonl", "--out", "x.npz", "--force", "-m", str(tiny_checkpoint)]
    for _ in range(30):
        running = subprocess.Popen(
            [sys.executable, "-m", "trivec", *arguments], cwd=notes, stderr=subprocess.PIPE, text=True
        )
        time.sleep(generator.uniform(0.5, 1.6))
        running.send_signal(signal.SIGINT)
        time.sleep(generator.uniform(0.001, 0.05))
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert "Traceback" not in err, err
        assert running.returncode in (130, -signal.SIGINT, 0)


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, arguments, cwd):
        pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
        self.pid, self.side = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            # A bar comes up at once, not after five seconds.
            code = "import trivec.support.progress as p; p._DELAY = 0.01; from trivec.cli import main; main()"
            os.execv(sys.executable, [sys.executable, "-c", code, *map(str, arguments)])
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.shown = ""

    def read_until(self, wanted, times=1, seconds=60):
        """Read what is shown until it holds `wanted` so many times, or the command ends."""
        end = time.monotonic() + seconds
        while self.shown.count(wanted) < times and time.monotonic() < end:
            if select.select([self.side], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.side, 4096).decode()
                except OSError:  # the command has ended
                    return
        assert wanted in self.shown, self.shown

    def wait(self):
        self.read_until("never shown")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self):
        """What stands on the screen's lines when all is done: of each what was written last."""
        return [line.rstrip("\r").rpartition("\r")[2] for line in self.shown.split("\n")]


@pytest.mark.parametrize(
    ("command", "noun"), [(["index", "few.jsonl"], "document"), (["encode", "notes.jsonl", "-o", "x.npz"], "text")]
)
def test_ctrl_c_on_a_terminal_stands_on_a_line_of_its_own_below_the_bar(notes, tiny_checkpoint, command, noun):
    lines = (notes / "notes.jsonl").read_text(encoding="utf-8").splitlines()
    (notes / "few.jsonl").write_text("\n".join(lines[:2000]), encoding="utf-8")  # Milvus takes longer to write them
    total = "2,000" if command[0] == "index" else "20,000"
    terminal = Terminal([*command, "-m", tiny_checkpoint], notes)
    # tqdm takes a bar for never shown until its first drawing is over.
    terminal.read_until(f"of {total} {noun}s, ", times=3)
    terminal.read_until(f"{noun}s/s, ")
    os.write(terminal.side, b"\x03")
    assert terminal.wait() == 130
    lines = terminal.lines()
    assert [line for line in lines if "interrupted" in line][-1].startswith("interrupted")
    bar = [line for line in lines if f"of {total} {noun}s, " in line][-1]
    assert bar.strip().startswith(("Indexing: ", "Encoding: "))
    assert bar.rstrip().endswith(" left")  # total, rate and how long it will take


def test_a_warning_does_not_stick_to_the_bar(notes, tiny_checkpoint):
    lines = [json.dumps({"text": text if i % 1000 else None}) for i, text in enumerate(TEXTS * 100)]
    (notes / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["encode", "notes.jsonl", "--out", "x.npz", "--on-error", "skip", "-m", tiny_checkpoint]
    terminal = Terminal(arguments, notes)
    assert terminal.wait() == 0
    assert "Encoding: " in terminal.shown
    told = [line for line in terminal.lines() if "skipped: x.npz.skipped.jsonl" in line]
    assert len(told) == 1
    assert "documents" not in told[0].partition("warning")[0]
