"""What foreign text may do to a terminal: nothing; and output that is complete whatever the terminal can show."""

import json
import os
import subprocess
import sys

import pytest

from sample_texts import SENTENCES
from trivec.cli.safe_text import safe, safe_json

EVIL = "boat \x1b[2J \x9b31m \u202egnp.exe \u2066x\u2069 \x07\x00"


def trivec(*arguments, cwd, encoding="utf-8"):
    """Run the command as a process of its own; return its exit code and what it wrote, as bytes."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    command = [sys.executable, "-m", "trivec", *map(os.fspath, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def drives(shown: str) -> set[str]:
    return set(shown) & set("\x1b\x9b\u202e\u2066\u2069\x07\x00")


@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\x07", "\x00", "\x7f", "\n", "\u202e", "\u2067", "\u2029"])
def test_what_could_drive_a_terminal_is_replaced(character):
    assert safe(f"a{character}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",  # Persian, with a non-joiner
        "क्\u200dष",  # Hindi, with a joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family: three emoji joined
        "שלום\u200f, \u200eworld",  # direction marks
        "soft\u00adhyphen, no\u00a0break, full\u3000width, ไทย\u200bไทย",
        "\ue000 \U0010ffff \ufeff",
    ],
)
def test_normal_text_is_kept(text):
    assert safe(text) == text
    assert json.loads(safe_json(text)) == text
    assert text in safe_json(text)


def test_json_stays_what_it_is_and_cannot_drive_a_terminal():
    value = {EVIL: [EVIL, "\udce9", {"deep": "\u2028"}]}
    for indent in (None, 2):
        written = safe_json(value, indent=indent)
        written.encode()  # no half of a surrogate pair is left
        assert not drives(written)
        assert json.loads(written) == value
    assert "\n" not in safe_json(value, indent=None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", f"{EVIL}.txt".replace("\x00", "")],  # told by trivec
        ["encode", "notes", "--out", "\x1b[2J\u202e.bin"],
        ["info", "./\x1b]0;title\x07"],
        ["mine", "\x1b[2J\x9b", "out"],  # told by typer
        ["--debug", "index", "\x1b[2J.txt"],  # with a traceback
    ],
)
def test_no_error_passes_on_the_escape_sequences_of_what_was_given(tmp_path, arguments):
    (tmp_path / "notes").mkdir()
    code, out, err = trivec(*arguments, cwd=tmp_path)
    assert code in (1, 2)
    assert not drives(out.decode() + err.decode())
    assert "[2J" in err.decode() or "title" in err.decode()  # but the rest is shown


def test_no_plain_line_of_output_passes_them_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "cache\x1b[2J"))
    code, out, _ = trivec("cache", "clear", cwd=tmp_path)
    assert code == 0
    assert "cache\ufffd[2J" in out.decode()
    code = "import typer; from trivec.cli.safe_text import settle_output as s; s(); typer.echo('a\\x1b[2J\\nb')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode() == "a\ufffd[2J\nb\n"


def test_a_file_name_that_is_not_utf_8_is_told(tmp_path):
    name = os.fsdecode(b"caf\xe9.bin")
    (tmp_path / name).write_text("x")
    code, _, err = trivec("index", name, cwd=tmp_path)
    assert (code, err.count(b"\n")) == (1, 1)
    assert "caf\ufffd.bin is not a" in err.decode()


def test_a_search_is_whole_and_harmless_in_any_encoding(tmp_path, tiny_checkpoint):
    text = f"{EVIL} {SENTENCES['zh'][0]} \U0001f600".replace("\x00", "")
    (tmp_path / "evil.txt").write_text(text, encoding="utf-8")
    (tmp_path / "two.txt").write_text("boat " + SENTENCES["de"][0], encoding="utf-8")
    assert trivec("index", ".", "-m", tiny_checkpoint, cwd=tmp_path)[0] == 0
    for encoding in ("utf-8", "ascii", "latin-1"):
        code, out, _ = trivec("search", "boat", "-m", tiny_checkpoint, "--json", cwd=tmp_path, encoding=encoding)
        shown = out.decode(encoding)
        assert code == 0
        assert not drives(shown)
        found = {hit["id"]: hit["text"] for hit in json.loads(shown)["hits"]}
        assert found["evil.txt#1"] == text
        assert found["two.txt#1"].endswith(SENTENCES["de"][0])
        code, out, _ = trivec("search", "boat", "-m", tiny_checkpoint, cwd=tmp_path, encoding=encoding)
        assert code == 0
        assert not drives(out.decode(encoding))
        assert {"evil.txt#1", "two.txt#1"} <= set(out.decode(encoding).split())
