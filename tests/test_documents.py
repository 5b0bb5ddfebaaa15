"""Reading files and folders into documents."""

import csv
import datetime
import json
import os
from pathlib import Path

import pytest

from trivec.documents import (
    Document,
    DocumentError,
    as_document,
    content_id,
    document_total,
    read_documents,
    read_texts,
)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_folder_gives_its_files_in_sorted_order_with_paths_as_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notes/b.txt", "zweite Notiz: Köln")
    write(tmp_path / "notes/a/one.md", "# First")
    write(tmp_path / "notes/.hidden/x.txt", "not read")
    write(tmp_path / "notes/picture.png", b"\x89PNG")
    documents = list(read_documents(["./notes"]))
    assert documents == [
        Document("notes/a/one.md", "# First", {"path": "notes/a/one.md"}),
        Document("notes/b.txt", "zweite Notiz: Köln", {"path": "notes/b.txt"}),
    ]
    assert list(read_documents(["notes"])) == documents


def test_jsonl_takes_the_named_fields_and_keeps_the_others_as_metadata(tmp_path):
    file = write(
        tmp_path / "x.jsonl", '{"pid": 7, "pos": "a", "lang": "en", "tags": ["t"]}\n\n{"pid": "q", "pos": "b"}\n'
    )
    first, second = read_documents([file], text_field="pos", id_field="pid")
    assert first == Document("7", "a", {"path": file.as_posix(), "lang": "en", "tags": ["t"]})
    assert (second.id, second.text) == ("q", "b")


def test_records_without_an_id_are_named_by_file_and_line(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"text": "a"}\n\n{"text": "b", "id": "own"}\n{"text": "c", "id": null}\n')
    assert [document.id for document in read_documents([file])] == [f"{file}:1", "own", f"{file}:4"]


def test_metadata_fields_keeps_only_those(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"text": "a", "lang": "en", "queries": ["q"]}')
    (document,) = read_documents([file], metadata_fields=["lang"])
    assert document.metadata == {"path": file.as_posix(), "lang": "en"}


def test_csv_with_quotes_newlines_and_a_field_beyond_the_module_default(tmp_path):
    file = tmp_path / "x.csv"
    long = "word " * 100_000
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows(
            [["text", "id", "year"], ['He said "no",\nthen left', "1", "1912"], [long, "2", ""]]
        )
    first, second = read_documents([file])
    assert first == Document("1", 'He said "no",\nthen left', {"path": file.as_posix(), "year": "1912"})
    assert second.text == long


def test_a_csv_record_is_named_by_its_first_line(tmp_path):
    file = write(tmp_path / "x.csv", 'text\n"two\nlines"\nlast\n')
    assert [document.id for document in read_documents([file])] == [f"{file}:2", f"{file}:4"]


def test_parquet_rows_with_dates_as_text(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"text": f"t{i}", "id": i, "day": datetime.date(2020, 1, 1)} for i in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    documents = list(read_documents([tmp_path / "x.parquet"]))
    assert [document.id for document in documents] == [str(i) for i in range(3000)]
    assert documents[-1].metadata["day"] == "2020-01-01"


def test_a_large_jsonl_file_is_read_as_it_is_asked_for(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"text": "good"}\nnot json\n')
    documents = read_documents([file])
    assert next(documents).text == "good"
    with pytest.raises(DocumentError):
        next(documents)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"text": "a"}\n{"text": \n', r"x\.jsonl:2: not JSON"),
        ("x.jsonl", '{"text": "a"}\n["b"]\n', r"x\.jsonl:2: a list, not a JSON object"),
        ("x.jsonl", '{"body": "a"}', r"x\.jsonl:1: no field 'text' for the text; the record has 'body'"),
        ("x.jsonl", '{"text": null}', r"x\.jsonl:1: the text field 'text' holds null"),
        ("x.jsonl", '{"text": {"en": "a"}}', r"x\.jsonl:1: the text field 'text' holds a dict"),
        (
            "x.jsonl",
            '{"text": "a"}\n{"text": "a", "n": ' + "9" * 5000 + "}",
            r"x\.jsonl:2: an integer has too many digits",
        ),
        ("x.jsonl", '{"text": "a", "n": ' + "[" * 100_000, r"x\.jsonl:1: lists or objects are nested too deeply"),
        ("x.csv", "text,lang,lang\na,b,c\n", r"x\.csv:1: the header names the column 'lang' twice"),
        ("x.jsonl", '{"text": "a", "id": [1]}', r"x\.jsonl:1: the id field 'id' holds a list"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', r"x\.jsonl:2: byte 0xe9 is not UTF-8"),
        ("x.csv", "title\na\n", r"x\.csv:2: no field 'text' for the text; the record has 'title'"),
        ("x.csv", "text,id\na,1,2\n", r"x\.csv:2: 3 columns, but the header names 2"),
        ("x.csv", 'text\n"never closed\n', r"x\.csv:2: not CSV"),
        ("x.csv", b"text\nfine\nk\xf6ln\n", r"x\.csv:3: byte 0xf6 is not UTF-8"),
        ("x.txt", b"one\ntwo\nk\xf6ln", r"x\.txt:3: byte 0xf6 is not UTF-8"),
        ("x.parquet", b"PAR1 no", r"x\.parquet: not a readable Parquet file"),
        ("x.docx", b"", r"x\.docx is not a \.txt, \.md"),
    ],
)
def test_an_unusable_file_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(DocumentError, match=message):
        list(read_documents([write(tmp_path / name, content)]))


def test_paths_are_checked_before_anything_is_read(tmp_path):
    good = write(tmp_path / "a.txt", "a")
    with pytest.raises(DocumentError, match=r"missing\.txt does not exist"):
        read_documents([good, tmp_path / "missing.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match="empty holds no"):
        read_documents([tmp_path / "empty"])


def test_an_id_field_that_is_asked_for_must_be_there(tmp_path):
    with pytest.raises(DocumentError, match=r"x\.jsonl:1: no field 'key' for the id"):
        list(read_documents([write(tmp_path / "x.jsonl", json.dumps({"text": "a", "id": 1}))], id_field="key"))


def test_what_users_pass_as_a_document():
    assert as_document("Turing", 0) == Document(content_id("Turing"), "Turing")
    assert as_document({"id": 3, "text": "a", "metadata": {"year": 1}}, 0) == Document("3", "a", {"year": 1})
    assert as_document({"text": "a"}, 0).id == as_document("a", 9).id
    for wrong, error, message in [
        (None, TypeError, "document 4 is NoneType"),
        ({"id": "x"}, DocumentError, "document 4 has no 'text'"),
        ({"text": 1}, TypeError, "text of document 4 is int"),
        ({"text": "a", "id": 1.5}, TypeError, "id of document 4 is float"),
        ({"text": "a", "year": 1}, DocumentError, "put 'year' inside 'metadata'"),
    ]:
        with pytest.raises(error, match=message):
            as_document(wrong, 4)


def test_a_subfolder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    write(tmp_path / "notes" / "a.txt", "fine")
    monkeypatch.chdir(tmp_path / "notes")
    for _ in range(20):  # beyond the longest path that the system takes, which root cannot read either
        name = "d" * 250
        Path(name).mkdir()
        os.chdir(name)
    with pytest.raises(DocumentError, match=r"cannot look into the folder .*ddd: File name too long"):
        read_documents([tmp_path / "notes"])


def test_the_total_is_known_where_no_file_has_to_be_read_for_it(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "two.parquet")
    write(tmp_path / "a.txt", "a")
    assert document_total([tmp_path]) == len(list(read_documents([tmp_path]))) == 3
    write(tmp_path / "b.jsonl", '{"text": "b"}')
    assert document_total([tmp_path]) is None


def test_a_line_of_a_text_file_is_a_text_where_many_are_wanted(tmp_path):
    file = write(tmp_path / "x.txt", "\ufeffone\r\n \n  two: Köln\n")
    assert list(read_texts(file)) == [Document(f"{file}:1", "one"), Document(f"{file}:3", "two: Köln")]
    with pytest.raises(DocumentError, match=r"bad\.txt:2: byte 0xff is not UTF-8"):
        list(read_texts(write(tmp_path / "bad.txt", b"one\n\xff\n")))


def test_records_are_texts_as_everywhere(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"body": "a", "id": "own"}\n{"body": "b"}\n')
    assert [(each.id, each.text) for each in read_texts(file, text_field="body")] == [("own", "a"), (f"{file}:2", "b")]
