"""`trivec cache`: what it lists, what it deletes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from converting import Loading
from trivec import __version__
from trivec.cli.app import run


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loading:
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return Loading(tmp_path / "converted")


def test_list_and_clear(load: Loading, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "list"]) == 0
    assert capsys.readouterr().out == f"0.0 MB in {load.cache.folder}\n"
    for precision in ("bf16", "int8"):
        load(tiny_checkpoint, precision)
    size = sum(path.stat().st_size for path in load.cache.folder.rglob("*.safetensors"))
    assert run(["cache", "list"]) == 0
    out = capsys.readouterr().out
    assert out.count(str(tiny_checkpoint)) == out.count(__version__) == 2
    assert "bf16" in out
    assert "int8" in out
    assert f"{size / 1e6:.1f} MB in {load.cache.folder}\n" in out
    assert run(["cache", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["folder"] == str(load.cache.folder)
    assert [model["precision"] for model in listed["models"]] == ["bf16", "int8"]
    assert listed["bytes"] == size == sum(Path(model["path"]).stat().st_size for model in listed["models"])
    assert run(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"freed {size / 1e6:.1f} MB in {load.cache.folder}\n"
    assert load.cache.entries() == []


def test_clear_says_what_is_being_written(
    load: Loading, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tiny_checkpoint)
    with FileLock(f"{load.entry.parent}.lock"):
        assert run(["cache", "clear"]) == 0
    out = capsys.readouterr().out
    assert out == f"freed 0.0 MB in {load.cache.folder}; left 1 that another process is writing\n"
    assert len(load.cache.entries()) == 1


@pytest.mark.parametrize("command", ["list", "clear"])
def test_help_is_quick_and_has_examples(command: str) -> None:
    code = (
        "import sys; from trivec.cli.app import run\n"
        f"assert run(['cache', '{command}', '--help']) == 0\n"
        "print('loaded:', {'openvino', 'numpy', 'filelock'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert f"trivec cache {command}" in done.stdout.split("Examples:")[1]
    assert "loaded: set()" in done.stdout
