"""How inputs are cut into shards: every record in exactly one, read as the library reads the whole file."""

from __future__ import annotations

import csv
import json

import pytest

from trivec.documents import DocumentError, DocumentFiles
from trivec.shards.passages import Reading, documents_of
from trivec.shards.plan import differing_input, find_inputs, make_plan, plan_bytes, plan_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_lines(path, count, *, end="\n", last="\n", mark=b"", blank=()):
    lines = [
        "" if i in blank else json.dumps({"text": f"text {i} é", "n": i}, ensure_ascii=False) for i in range(count)
    ]
    path.write_bytes(mark + (end.join(lines) + last).encode())


def documents(plan, reading=Reading(), faults=None):  # noqa: B008 - a constant
    for shard in plan.shards:
        yield from documents_of(shard.pieces, plan.files, reading, (faults if faults is not None else []).append)


def planned(paths, records, encoding=None):
    plan = make_plan(find_inputs(map(str, paths)), records, encoding)
    assert plan_of(plan_bytes(plan)) == plan
    return plan


@pytest.mark.parametrize("records", [1, 3, 7, 100])
@pytest.mark.parametrize(
    "lines",
    [{}, {"end": "\r\n"}, {"last": ""}, {"mark": b"\xef\xbb\xbf"}, {"blank": (0, 3, 4, 9)}],
    ids=["plain", "windows", "no end", "mark", "blank"],
)
def test_lines_are_read_as_in_one_go(tmp_path, records, lines):
    write_lines(tmp_path / "a.jsonl", 10, **lines)
    plan = planned(["a.jsonl"], records)
    assert list(documents(plan)) == list(DocumentFiles(["a.jsonl"]).read())
    assert max(shard.records for shard in plan.shards) <= records
    assert plan.records == 10


@pytest.mark.parametrize("group", [1, 4, 100])
@pytest.mark.parametrize("records", [1, 3, 7, 100])
def test_rows_of_parquet_are_read_as_in_one_go(tmp_path, records, group):
    table = pa.table({"id": [f"d{i}" for i in range(20)], "text": [f"text {i}" for i in range(20)], "n": range(20)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    plan = planned(["a.parquet"], records)
    assert list(documents(plan)) == list(DocumentFiles(["a.parquet"]).read())
    assert len(plan.shards) == -(-20 // records)


def test_files_of_all_kinds_together(tmp_path):
    for i in range(5):
        (tmp_path / f"note{i}.md").write_text(f"note {i}", encoding="utf-8")
    write_lines(tmp_path / "a.jsonl", 10)
    (tmp_path / "utf16.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-16")
    with (tmp_path / "b.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "text", "n"], ["x", "line\nbreak", 1], ["y", "z", 2]])
    plan = planned(["."], 4)
    assert list(documents(plan)) == list(DocumentFiles(["."]).read())
    names = [shard.name for shard in plan.shards]
    assert names == sorted(set(names))


def test_ids_are_those_of_the_folder_it_was_planned_in(tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a", encoding="utf-8")
    write_lines(tmp_path / "notes" / "b.jsonl", 3)
    plan = planned(["notes"], 2)
    monkeypatch.chdir("/")
    ids = [document.id for document in documents(plan)]
    assert ids == ["notes/a.txt", "notes/b.jsonl:1", "notes/b.jsonl:2", "notes/b.jsonl:3"]


def test_bad_records_are_told_with_their_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "b"}\n{"body": "c"}\n\xff\n{"text": "d"}\n')
    faults = []
    plan = planned(["a.jsonl"], 2)
    assert [document.text for document in documents(plan, faults=faults)] == ["a", "b", "d"]
    assert [fault.line for fault in faults] == [3, 4]
    assert {fault.file for fault in faults} == {str(tmp_path / "a.jsonl")}


def test_files_that_differ_are_named(tmp_path):
    write_lines(tmp_path / "a.jsonl", 3)
    before = find_inputs(["a.jsonl"])
    assert differing_input(before, find_inputs(["a.jsonl"])) is None
    write_lines(tmp_path / "b.jsonl", 3)
    assert "b.jsonl does not belong to it" in differing_input(before, find_inputs(["."]))
    assert "a.jsonl belongs to it" in differing_input(before, find_inputs(["b.jsonl"]))
    write_lines(tmp_path / "a.jsonl", 4)
    assert "a.jsonl has changed since" in differing_input(before, find_inputs(["a.jsonl"]))


def test_what_cannot_be_planned(tmp_path):
    with pytest.raises(DocumentError, match="only once"):
        find_inputs(["-"])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more than that")
    with pytest.raises(DocumentError, match=r"a\.parquet: not a readable Parquet file"):
        planned(["a.parquet"], 5)
