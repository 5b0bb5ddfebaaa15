"""`trivec collections`, and what `trivec index` says of documents that are gone, blank or interrupted."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from sample_texts import SENTENCES
from trivec.cli import collections
from trivec.documents import Document
from trivec.milvus import M3Collection, index_documents


@pytest.fixture
def collection(tiny_model, tmp_path):
    with M3Collection("texts", tiny_model, uri=str(tmp_path / "test.db")) as opened:
        yield opened


@pytest.fixture
def indexed(trivec_command, tmp_path, tiny_checkpoint):
    """A folder of three files, one of several chunks, and a collection of it."""
    folder = tmp_path / "notes"
    (folder / "fr").mkdir(parents=True)
    (folder / "long.md").write_text(" ".join(SENTENCES["en"] * 20), encoding="utf-8")
    (folder / "fr" / "short.txt").write_text(SENTENCES["fr"][0], encoding="utf-8")
    (folder / "other.txt").write_text(SENTENCES["de"][0], encoding="utf-8")
    assert trivec_command("index", "notes", "-c", "notes", "-m", tiny_checkpoint, "--chunk-tokens", 64)[0] == 0
    return folder


def facts(trivec_command, *arguments):
    code, out, _ = trivec_command("collections", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_list_and_info(trivec_command, indexed, tiny_checkpoint):
    (listed,) = facts(trivec_command, "list")
    known = facts(trivec_command, "info", "notes")
    assert listed["name"] == known["name"] == "notes"
    assert known["documents"] == 3
    assert known["rows"] == listed["rows"] > 5
    assert known["model"]["name"] == str(tiny_checkpoint)
    assert known["model"]["precision"] in ("fp32", "bf16")
    assert known["dense_dim"] == 32
    on_disk = sum(file.stat().st_size for file in Path("milvus.db").rglob("*") if file.is_file())
    assert 0 < known["bytes"] <= on_disk
    for shown in (trivec_command("collections", "list")[1], trivec_command("collections", "info", "notes")[1]):
        assert str(tiny_checkpoint) in shown
        assert "notes" in shown
    assert trivec_command("collections", "info", "nots")[0::2] == (
        1,
        "error: milvus.db has no collection 'nots' (it has: notes): index documents first\n",
    )


@pytest.mark.parametrize("arguments", [["list"], ["info", "x"], ["drop", "x", "--yes"], ["delete", "x", "y"]])
def test_a_file_that_is_not_there_is_not_made(trivec_command, arguments, tmp_path):
    code, out, err = trivec_command("collections", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "there is no Milvus Lite file milvus.db" in err
    assert list(tmp_path.iterdir()) == []


def test_drop_asks(trivec_command, indexed, monkeypatch):
    assert trivec_command("collections", "drop", "notes")[0] == 2  # nobody to ask
    monkeypatch.setattr(collections.sys.stdin, "isatty", lambda: True, raising=False)
    asked = []
    answers = iter([False, True])
    monkeypatch.setattr(collections.typer, "confirm", lambda text, **_: asked.append(text) or next(answers))
    assert trivec_command("collections", "drop", "notes")[0] == 1
    assert facts(trivec_command, "info", "notes")["documents"] == 3
    assert trivec_command("collections", "drop", "notes")[0] == 0
    assert all(text.startswith("delete collection notes of milvus.db with its ") for text in asked)
    assert facts(trivec_command, "list") == []
    assert trivec_command("collections", "drop", "notes", "--yes")[0] == 1


def test_drop_with_yes(trivec_command, indexed, tiny_checkpoint):
    assert trivec_command("index", "notes/other.txt", "-c", "kept", "-m", tiny_checkpoint)[0] == 0
    assert trivec_command("collections", "drop", "notes", "-y")[0] == 0
    assert [each["name"] for each in facts(trivec_command, "list")] == ["kept"]


def test_delete_documents_and_chunks(trivec_command, indexed):
    before = facts(trivec_command, "info", "notes")["rows"]
    code, _, err = trivec_command("collections", "delete", "notes", "notes/other.txt", "notes/long.md#2")
    assert code == 0
    assert "2 chunks deleted" in err
    assert facts(trivec_command, "info", "notes")["rows"] == before - 2
    code, _, err = trivec_command("collections", "delete", "notes", "notes/long.md", "no\0pe", "'; drop")
    assert code == 1
    assert facts(trivec_command, "info", "notes")["documents"] == 1
    assert r"holds no 'no\x00pe', \"'; drop\"" in err.replace('"', r"\"")


def test_files_that_are_gone_are_counted_and_removed_with_sync(trivec_command, indexed, tiny_checkpoint):
    again = ("index", "notes", "-c", "notes", "--chunk-tokens", 64, "--resume")
    assert "no longer" not in trivec_command(*again)[2]
    (indexed / "long.md").unlink()
    (indexed / "fr" / "short.txt").unlink()
    code, _, err = trivec_command(*again)
    assert code == 0
    assert "warning: 2 documents stored from these paths before, no longer there and still findable: --sync" in err
    search = ("search", SENTENCES["fr"][0], "-c", "notes", "--json", "-n", 1)
    assert json.loads(trivec_command(*search)[1])["hits"][0]["id"] == "notes/fr/short.txt#1"
    code, _, err = trivec_command(*again, "--sync", "--yes")
    assert code == 0
    assert "warning" not in err
    assert facts(trivec_command, "info", "notes")["documents"] == 1
    assert json.loads(trivec_command(*search)[1])["hits"][0]["id"] == "notes/other.txt#1"


def test_sync_leaves_what_other_paths_hold(trivec_command, indexed, tmp_path, tiny_checkpoint):
    (tmp_path / "notes2").mkdir()
    (tmp_path / "notes2" / "a.txt").write_text("a boat")
    lines = [json.dumps({"id": f"r{i}", "text": f"text number {i}"}) for i in range(5)]
    Path("r.jsonl").write_text("\n".join(lines))
    assert trivec_command("index", "notes2", "r.jsonl", "-c", "notes")[0] == 0
    Path("r.jsonl").write_text("\n".join(lines[:2]))
    code, _, err = trivec_command("index", "r.jsonl", "-c", "notes", "--sync", "--yes")
    assert (code, "warning" in err) == (0, False)
    assert facts(trivec_command, "info", "notes")["documents"] == 3 + 1 + 2
    (indexed / "other.txt").unlink()
    assert trivec_command("index", indexed.resolve(), "-c", "notes", "--sync", "-y", "--chunk-tokens", 64)[0] == 0
    known = {"notes2/a.txt#1", "r0#1", "r1#1"}
    found = json.loads(trivec_command("search", "text", "-c", "notes", "--mode", "dense", "--json", "-n", 100)[1])[
        "hits"
    ]
    assert known <= {hit["id"] for hit in found}
    assert not [hit["id"] for hit in found if "other.txt" in hit["id"]]


def test_sync_asks_and_without_anybody_to_ask_needs_yes(trivec_command, indexed):
    before = facts(trivec_command, "info", "notes")["rows"]
    (indexed / "other.txt").unlink()
    code, _, err = trivec_command("index", "notes", "-c", "notes", "--sync", "--chunk-tokens", 64)
    assert (code, "nobody to ask whether to delete what is gone: give --yes" in " ".join(err.split())) == (2, True)
    assert facts(trivec_command, "info", "notes")["rows"] == before


@pytest.mark.parametrize(("answer", "left"), [("y", 2), ("n", 3), ("", 3)])
def test_sync_shows_what_is_gone_and_asks(indexed, tmp_path, answer, left):
    (indexed / "other.txt").unlink()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trivec", "index", "notes", "-c", "notes", "--sync", "--chunk-tokens", "64"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    _, shown = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0
    assert "no longer there: notes/other.txt (1 chunk)\n" in shown
    assert "Delete 1 document (1 chunk) from collection notes of milvus.db? [y/N]" in shown
    assert ("1 document stored from these paths before, no longer there and still findable\n" in shown) is (left == 3)
    with M3Collection("notes", uri=tmp_path / "milvus.db") as collection:
        assert collection.document_count() == left


def test_what_is_gone_is_deleted_if_the_caller_says_so(collection, tmp_path):
    documents = [Document(name, f"text of {name}", {"path": str(tmp_path / name)}) for name in ("a", "b", "c")]
    index_documents(collection, documents, read_from=[tmp_path])
    asked = []
    done = index_documents(
        collection, documents[:1], read_from=[tmp_path], sync=True, confirm=lambda gone: asked.append(dict(gone))
    )
    assert asked == [{"b": ["b#1"], "c": ["c#1"]}]
    assert (done.gone, done.kept, done.removed, collection.count()) == (2, 2, 0, 3)
    done = index_documents(collection, documents[:1], read_from=[tmp_path], sync=True, confirm=lambda _: True)
    assert (done.gone, done.kept, done.removed, collection.count()) == (2, 0, 2, 1)


def test_a_record_that_is_skipped_is_not_gone(trivec_command, indexed):
    Path("r.jsonl").write_text('{"id": "a", "text": "a boat"}\n{"id": "b", "text": "a mill"}\n')
    assert trivec_command("index", "r.jsonl", "-c", "notes")[0] == 0
    Path("r.jsonl").write_text('{"id": "a", "text": "a boat"}\n{"id": "b", "text": null}\n')
    code, _, err = trivec_command("index", "r.jsonl", "-c", "notes", "--on-error", "skip")
    assert (code, "no longer there" in err) == (0, False)
    code, _, err = trivec_command("index", "r.jsonl", "-c", "notes", "--on-error", "skip", "--sync")
    assert (code, "would remove what only could not be read" in " ".join(err.split())) == (2, True)


def test_a_file_that_is_there_and_gives_no_document_is_not_gone(collection, tmp_path):
    """As where a bad file is read past: what was stored of it before is better than nothing."""
    paths = {name: str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt")}
    documents = {name: Document(name, f"text of {name}", {"path": path}) for name, path in paths.items()}
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text")
    index_documents(collection, documents.values(), read_from=[tmp_path])
    read = [documents["a.txt"], Document("other", "text", {"path": paths["a.txt"]})]
    assert index_documents(collection, read, read_from=[tmp_path]).gone == 1
    done = index_documents(collection, [documents["a.txt"]], read_from=[tmp_path], sync=True)
    assert (done.gone, done.removed) == (2, 2)  # c.txt is no longer there, "other" no longer in a.txt
    assert collection.known_ids(["a.txt#1", "b.txt#1", "c.txt#1", "other#1"]) == {"a.txt#1", "b.txt#1"}


def test_blank_documents_are_counted(trivec_command, tmp_path, tiny_checkpoint):
    (tmp_path / "r.jsonl").write_text('{"text": ""}\n{"text": " "}\n{"text": "a boat"}\n')
    code, _, err = trivec_command("index", "r.jsonl", "-m", tiny_checkpoint)
    assert code == 0
    assert "warning: 2 documents left out: empty or blank" in err
    assert err.strip().endswith("now holds 1")
    (tmp_path / "one.txt").write_text("a bridge")
    assert "1 document: 1 chunk stored" in trivec_command("index", "one.txt")[2]
    for blank in ("", " "):
        code, _, err = trivec_command("search", blank)
        assert code == 2
        assert "the query is empty" in err


@pytest.mark.parametrize("name", ["my notes", "1st", "größe"])
def test_a_name_that_milvus_takes_not_is_said_before_anything_is_loaded(trivec_command, tmp_path, name):
    (tmp_path / "one.txt").write_text("a bridge")
    for arguments in (
        ("index", "one.txt", "-c", name),
        ("index", "missing.txt", "-c", name),
        ("search", "x", "-c", name),
    ):
        code, out, err = trivec_command(*arguments)  # with the default model, which is not on this machine
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"{name!r} cannot be the name of a collection" in err
    assert [each.name for each in tmp_path.iterdir()] == ["one.txt"]


def test_offset(trivec_command, indexed):
    first = json.loads(trivec_command("search", "boat", "-c", "notes", "--json", "-n", 4, "--candidates", 9)[1])["hits"]
    second = json.loads(
        trivec_command("search", "boat", "-c", "notes", "--json", "-n", 2, "--offset", 2, "--candidates", 9)[1]
    )["hits"]
    assert [hit["id"] for hit in second] == [hit["id"] for hit in first[2:]]
    assert trivec_command("search", "boat", "-c", "notes", "-n", 2, "--offset", 2, "--candidates", 3)[0] == 2


def test_a_mistyped_filter_is_said(trivec_command, indexed):
    code, out, err = trivec_command("search", "boat", "-c", "notes", "--filter", "pth == 'x'")
    assert (code, out.strip()) == (0, "nothing found")
    assert "warning: nothing found, and no document of collection 'notes' has the field 'pth'" in err
    assert "'path'" in err
