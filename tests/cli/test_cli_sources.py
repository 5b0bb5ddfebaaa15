"""Files named on the command line, as `trivec index` stores them and `trivec search` finds them."""

import json

import pytest

from trivec.cli.app import run


@pytest.fixture
def trivec(monkeypatch, tmp_path, capsys, tiny_checkpoint):
    """Run a command in a folder under tmp_path with the tiny model; return exit code, stdout and stderr."""

    def call(*arguments, cwd="."):
        monkeypatch.chdir(tmp_path / cwd)
        code = run([*map(str, arguments), "--uri", str(tmp_path / "milvus.db"), "-m", str(tiny_checkpoint)])
        return code, *capsys.readouterr()

    call.model = tiny_checkpoint
    return call


def hits(trivec, *arguments):
    code, out, err = trivec("search", "boat", "--mode", "dense", "--json", *arguments)
    assert code == 0, err
    return {hit["id"]: hit["metadata"] for hit in json.loads(out)["hits"]}


def test_a_number_in_a_csv_file_is_found_as_a_number(trivec, tmp_path):
    rows = "text,year,code,price\na boat,1910,01234,2.50\na ship,1911,99999,3\nno year,,12345,1\n"
    (tmp_path / "x.csv").write_text(rows, encoding="utf-8")
    assert trivec("index", "x.csv")[0] == 0
    found = hits(trivec, "--filter", "year == 1910")
    assert [(each["year"], each["code"], each["price"]) for each in found.values()] == [(1910, "01234", 2.5)]
    assert set(hits(trivec, "--filter", 'code == "12345"')) == {"x.csv:4#1"}
    assert set(hits(trivec, "--filter", "price > 2.4 and year > 1910")) == {"x.csv:3#1"}


def test_a_file_by_any_path_from_any_folder_is_one_document(trivec, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("a boat", encoding="utf-8")
    ways = [("notes/a.txt", "."), (notes / "a.txt", "."), ("notes", "."), ("a.txt", "notes"), ("../notes", "notes")]
    for path, cwd in ways:
        code, _, err = trivec("index", path, cwd=cwd)
        assert code == 0
        assert err.strip().endswith("now holds 1")
    assert hits(trivec).keys() == {"notes/a.txt#1"}
    assert hits(trivec)["notes/a.txt#1"]["path"] == (notes / "a.txt").as_posix()


def test_one_file_in_latin_1_stops_a_folder_before_anything_is_stored(trivec, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for i in range(300):  # more than one write to Milvus
        (notes / f"a{i:03}.txt").write_text(f"boat number {i}", encoding="utf-8")
    for name in ("y.txt", "z.txt"):
        (notes / name).write_bytes(b"caf\xe9")
    code, _, err = trivec("index", "notes")
    assert (code, err.count("\n")) == (1, 1)
    assert "notes/y.txt:1: byte 0xe9" in err
    assert "notes/z.txt:1: byte 0xe9" in err
    assert not (tmp_path / "milvus.db").exists()
    code, _, err = trivec("index", "notes", "--on-error", "skip")
    assert code == 0
    assert "warning: 2 records skipped: documents.skipped.jsonl says which and why" in err
    assert "300 documents" in err
    skipped = (tmp_path / "documents.skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in skipped] == ["notes/y.txt", "notes/z.txt"]
    assert trivec("index", "notes", "--encoding", "cp1252", "--resume")[0] == 0
    assert "café" in trivec("search", "café", "--filter", 'path like "%/z.txt"')[1]


def test_what_milvus_cannot_hold_is_told_before_anything_is_stored(trivec, tmp_path):
    records = [
        {"text": "a good boat"},
        {"text": "x", "id": "line\nbreak"},
        {"text": "x", "id": "i" * 2000},
        {"text": "x", "n": 2**70},
        {"text": "x", "long": "m" * 70_000},
        {"text": "x", "start": 1},  # the name that a chunk's place has
        {"text": "another good boat"},
    ]
    lines = "\n".join(map(json.dumps, records))
    (tmp_path / "r.jsonl").write_text(lines, encoding="utf-8")
    code, _, err = trivec("index", "r.jsonl")
    assert (code, err.count("\n")) == (1, 1)
    assert "r.jsonl:2: document 'line\\nbreak#1'" in err
    assert "(and 4 more)" in err
    assert not (tmp_path / "milvus.db").exists()
    code, _, err = trivec("index", "r.jsonl", "--on-error", "skip")
    assert code == 0
    assert "2 documents" in err
    listed = [json.loads(line) for line in (tmp_path / "documents.skipped.jsonl").read_text().splitlines()]
    assert [each["line"] for each in listed] == [2, 3, 4, 5, 6]
    assert listed[2]["record"] == records[3]
    # What cannot be stored can be encoded.
    assert run(["encode", "r.jsonl", "--out", "x.npz", "-m", str(trivec.model)]) == 0
