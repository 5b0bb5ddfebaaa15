"""A damaged or hostile tokenizer.json is one line of error: no panic, no loop without end, no crash of the process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sample_texts import SENTENCES
from trivec import M3Model
from trivec.checkpoint import tokenizer_file
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.errors import CheckpointError


@pytest.fixture
def file(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_checkpoint / "tokenizer.json", tmp_path))


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """As on a machine that has not seen the file; the child processes that are started are listed."""
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokenizer_file, "_passed_in_this_process", set())
    started: list[list[str]] = []
    real = subprocess.run
    monkeypatch.setattr(
        tokenizer_file.subprocess, "run", lambda command, **more: started.append(command) or real(command, **more)
    )
    return started


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def normalizers(*parts: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.update(normalizer={"type": "Sequence", "normalizers": list(parts)})


PANICS = normalizers({"type": "Precompiled", "precompiled_charsmap": "AAAA"})
GROWS = normalizers(*[{"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 90}] * 9)
FAILS = normalizers({"type": "Replace", "pattern": {"Regex": "(a|a|aa)+$x"}, "content": "x"})


def test_a_panic_is_an_error_like_any_other(file: Path, fresh: list[list[str]], capfd: pytest.CaptureFixture) -> None:
    edit(file, PANICS)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer that can be used \(.*charsmap"):
        M3Tokenizer(file)
    assert capfd.readouterr().err == ""
    assert len(fresh) == 1


@pytest.mark.usefixtures("fresh")
def test_a_normalizer_that_never_ends_is_stopped(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_file, "_CPU_SECONDS", 2)
    edit(file, GROWS)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json .*more than 2 seconds or too much memory, or crashed"):
        M3Tokenizer(file)


@pytest.mark.usefixtures("fresh")
def test_the_clock_stops_what_takes_no_processor_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_file, "_WALL_SECONDS", 1)
    edit(file, GROWS)
    with pytest.raises(CheckpointError, match=r"did not end within 1 seconds"):
        M3Tokenizer(file)


@pytest.mark.usefixtures("fresh")
def test_a_tokenizer_that_fails_on_texts_only_is_found_out(file: Path) -> None:
    edit(file, FAILS)
    with pytest.raises(CheckpointError, match=r"is no tokenizer that can be used .*retry-limit"):
        M3Tokenizer(file)


@pytest.mark.parametrize("change", [PANICS, FAILS])
def test_what_the_trial_did_not_find_is_told_too(
    change: Callable[[dict[str, Any]], object], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a program that cannot start another Python."""
    monkeypatch.setattr(sys, "executable", "")
    edit(file, change)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json (is no tokenizer that can be used|fails on a text)"):
        M3Tokenizer(file).encode_batch(["a" * 3000], 16)


def test_ids_in_no_order_are_refused(file: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"<unk>": 3, "<s>": 0, "boat": 2**31}, "unk_token": "<unk>"}
    edit(file, lambda content: content.update(model=model))
    with pytest.raises(CheckpointError, match="its model is WordLevel, not Unigram"):
        M3Tokenizer(file)


def test_a_good_file_is_tried_once_wherever_it_lies(
    file: Path, fresh: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    M3Tokenizer(file)
    (tmp_path / "other").mkdir()
    M3Tokenizer(Path(shutil.copy(file, tmp_path / "other")))
    monkeypatch.setattr(tokenizer_file, "_passed_in_this_process", set())  # another process
    M3Tokenizer(file)
    assert len(fresh) == 1
    file.write_bytes(file.read_bytes() + b" ")
    M3Tokenizer(file)
    assert len(fresh) == 2


def test_without_a_cache_it_is_tried_once_a_process(
    file: Path, fresh: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "file"))
    for _ in range(3):
        M3Tokenizer(file)
    assert len(fresh) == 1


def test_a_file_that_failed_is_not_taken_for_good(file: Path, fresh: list[list[str]]) -> None:
    edit(file, PANICS)
    for _ in range(2):
        with pytest.raises(CheckpointError):
            M3Tokenizer(file)
    assert len(fresh) == 2


def test_a_script_without_a_main_guard_is_not_run_again(tiny_checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom trivec import M3Model\n"
        "print('once', flush=True)\n"
        f"print(len(M3Model.load({str(tiny_checkpoint)!r}, precision='fp32').encode(['a boat']).dense))\n"
    )
    environment = {"TRIVEC_CACHE": str(tmp_path / "cache"), "PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "once\n1\n"
    assert len(list((tmp_path / "cache").rglob("tokenizer-*"))) == 1


def test_the_real_tokenizer_passes(xlmr_tokenizer: Path, fresh: list[list[str]]) -> None:
    assert M3Tokenizer(xlmr_tokenizer / "tokenizer.json").vocabulary_size == 250_002
    assert len(fresh) == 1


def test_nano_passes(fresh: list[list[str]]) -> None:
    texts = [texts[0] for texts in SENTENCES.values()]
    with M3Model.load("nano", precision="fp32") as model:
        assert len(model.encode(texts).dense) == len(texts)
    assert len(fresh) == 1
