"""Reading files and folders into documents."""

import codecs
import csv
import datetime
import json
import os
import random
from pathlib import Path

import pytest

from trivec.documents import (
    Document,
    DocumentError,
    DocumentFiles,
    as_document,
    content_id,
    read_documents,
    read_texts,
)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def place(path: Path) -> dict[str, str]:
    return {"path": path.as_posix()}


def test_a_folder_gives_its_files_in_sorted_order_with_paths_as_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notes/b.txt", "zweite Notiz: Köln")
    write(tmp_path / "notes/a/one.md", "# First")
    write(tmp_path / "notes/.hidden/x.txt", "not read")
    write(tmp_path / "notes/picture.png", b"\x89PNG")
    documents = list(read_documents(["./notes"]))
    assert documents == [
        Document("notes/a/one.md", "# First", place(tmp_path / "notes/a/one.md")),
        Document("notes/b.txt", "zweite Notiz: Köln", place(tmp_path / "notes/b.txt")),
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
    assert first == Document("1", 'He said "no",\nthen left', {"path": file.as_posix(), "year": 1912})
    assert second.text == long
    assert second.metadata["year"] is None


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
        ("x.jsonl", '{"text": "a", "text": "b"}', r"x\.jsonl:1: it names the field 'text' twice"),
        ("x.jsonl", '{"text": "a", "x": [{"n": 1, "n": 2}]}', r"x\.jsonl:1: it names the field 'n' twice"),
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


def test_a_bare_string_is_not_taken_for_its_letters(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"text": "a", "lang": "en"}')
    with pytest.raises(TypeError, match=r"paths is a single str: write \[path\]"):
        read_documents(str(file))
    with pytest.raises(TypeError, match=r"metadata_fields is a single str: write \['lang'\]"):
        read_documents([file], metadata_fields="lang")


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


def test_a_line_of_a_text_file_is_a_text_where_many_are_wanted(tmp_path):
    file = write(tmp_path / "x.txt", "\ufeffone\r\n \n  two: Köln\n")
    assert list(read_texts(file)) == [Document(f"{file}:1", "one"), Document(f"{file}:3", "two: Köln")]
    with pytest.raises(DocumentError, match=r"bad\.txt:2: byte 0xff is not UTF-8"):
        list(read_texts(write(tmp_path / "bad.txt", b"one\n\xff\n")))


def test_records_are_texts_as_everywhere(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"body": "a", "id": "own"}\n{"body": "b"}\n')
    assert [(each.id, each.text) for each in read_texts(file, text_field="body")] == [("own", "a"), (f"{file}:2", "b")]


def texts(*paths, **options):
    return [document.text for document in read_documents(paths, **options)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.csv"])
def test_a_byte_order_mark_says_how_a_file_is_encoded(tmp_path, encoding, name):
    content = {"x.txt": "Köln 東京", "x.jsonl": '{"text": "Köln 東京"}\n', "x.csv": "text\r\nKöln 東京\r\n"}[name]
    data = content.encode(encoding)
    file = write(tmp_path / name, codecs.BOM_UTF16_BE + data if encoding == "utf-16-be" else data)
    assert texts(file) == ["Köln 東京"]
    assert texts(file, encoding="latin-1") == ["Köln 東京"]  # it knows better than who names another


def test_an_encoding_may_be_named(tmp_path):
    files = [
        write(tmp_path / "a.txt", "Köln €".encode("cp1252")),
        write(tmp_path / "b.jsonl", '{"text": "Köln €"}'.encode("cp1252")),
        write(tmp_path / "c.csv", "text\nKöln €\n".encode("cp1252")),
    ]
    assert texts(*files, encoding="cp1252") == ["Köln €"] * 3
    assert texts(write(tmp_path / "d.jsonl", '{"text": "東京"}'.encode("utf-16-le")), encoding="utf-16-le") == ["東京"]
    for name in ("klingon", "rot13", ""):
        with pytest.raises(DocumentError, match="is no encoding of text"):
            read_documents(files, encoding=name)


@pytest.mark.parametrize(("name", "content"), [("x.txt", "boat"), ("x.csv", "text\nboat\n")])
def test_utf_16_without_its_mark_is_not_taken_for_letters_between_nuls(tmp_path, name, content):
    file = write(tmp_path / name, content.encode("utf-16-le"))
    with pytest.raises(DocumentError, match=r"NUL characters, as UTF-16"):
        texts(file)
    assert texts(file, encoding="utf-16-le") == ["boat"]


def test_damaged_utf_16_is_told(tmp_path):
    file = write(tmp_path / "x.jsonl", codecs.BOM_UTF16_LE + b"{\x00}\x00\n\x00\x00\xdc")
    with pytest.raises(DocumentError, match=r"x\.jsonl: byte 0x00 is not UTF-16-LE"):
        texts(file)


def test_delimiters(tmp_path):
    file = write(tmp_path / "x.csv", 'text;id\n"a;b";1\n')
    assert texts(file, delimiter=";") == ["a;b"]
    assert texts(write(tmp_path / "x.tsv", "id\ttext\n1\ta, b\n"), delimiter=";") == ["a, b"]
    file = write(tmp_path / "y.csv", "text;id\nab;1\n")
    with pytest.raises(DocumentError, match="'text;id': are its columns separated by ';'"):
        texts(file)
    for wrong in ("", ";;", '"', "\n"):
        with pytest.raises(ValueError, match="delimiter is"):
            read_documents([file], delimiter=wrong)


def test_other_endings_of_the_same_kinds(tmp_path):
    write(tmp_path / "a.ndjson", '{"text": "one"}\n')
    write(tmp_path / "b.MARKDOWN", "# two")
    write(tmp_path / "c.htm", "<p>three")
    assert texts(tmp_path) == ["one", "# two", "three"]


PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>Alan  Turing</title>
<style>p { color: red }</style><script>if (a < b) { track("<p>no</p>") }</script></head>
<body><h1>Life</h1><p>Born <b>19</b>12&nbsp;in<br>London&#x21; <!-- no --> Caf&eacute;</p>
<ul><li>one<li>two</ul><table><tr><td>a</td><td>b</td></tr></table>
<pre>x = 1
y = 2</pre><noscript>Switch it on</noscript><template>no</template><p>end &amp; unclosed <i>tag"""


def test_the_text_of_a_page_is_what_it_shows(tmp_path):
    expected = "Alan Turing\nLife\nBorn 1912 in\nLondon! Café\none\ntwo\na b\nx = 1\ny = 2\nend & unclosed tag"
    assert texts(write(tmp_path / "x.html", PAGE)) == [expected]
    declared = PAGE.replace("utf-8", "iso-8859-1").replace("&eacute;", "é").encode("latin-1")
    assert texts(write(tmp_path / "latin.html", declared)) == [expected]
    assert texts(write(tmp_path / "utf16.html", PAGE.encode("utf-16"))) == [expected]
    lying = PAGE.replace("utf-8", "utf-16")
    assert texts(write(tmp_path / "lying.html", lying)) == [expected]


def test_a_page_that_the_parser_gives_up_on_is_told(tmp_path):
    bad = []
    read = texts(write(tmp_path / "x.html", "<![nonsense[ x ]]>"), on_error=bad.append)
    # Python's parser gave up on it with an AssertionError until it was mended.
    assert (read, [record.reason.partition(" that")[0] for record in bad]) in [([], ["not HTML"]), ([""], [])]


COLUMNS = {
    "year": (["1910", " 7", "-3", ""], [1910, 7, -3, None]),
    "price": (["12.50", "3", "-0.5", "0"], [12.5, 3.0, -0.5, 0.0]),
    "postal_code": (["01234", "80331", "10115", "1"], None),
    "phone": (["+49301234", "49301234", "1", "2"], None),
    "part": (["1e5", "15", "1", "2"], None),
    "missing": (["nan", "1.5", "2", "3"], None),
    "unlimited": (["inf", "1", "2", "3"], None),
    "account": (["12345678901234567890", "1", "2", "3"], None),
    "exact": (["0.1234567890123456", "1.5", "2", "3"], None),
    "mixed": (["1910", "unknown", "1911", "1912"], None),
    "flag": (["true", "false", "true", "false"], None),
    "arabic": (["٣", "1", "2", "3"], None),
    "zero": (["-0", "1", "2", "3"], None),
    "empty": (["", "", "", ""], ["", "", "", ""]),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_csv_column_is_a_number_if_all_its_values_are(tmp_path, column):
    values, expected = COLUMNS[column]
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["text", column], *(["t", value] for value in values)])
    read = [document.metadata[column] for document in read_documents([tmp_path / "x.csv"])]
    expected = expected or values
    assert read == expected
    assert [type(value) for value in read] == [type(value) for value in expected]


def test_text_and_id_of_a_csv_file_stay_as_they_are_written(tmp_path):
    file = write(tmp_path / "x.csv", "text,id,n\n12,007,1\n13,8,2\n")
    assert [(d.text, d.id, d.metadata["n"]) for d in read_documents([file])] == [("12", "007", 1), ("13", "8", 2)]


def test_a_file_is_one_document_whatever_path_leads_to_it(tmp_path, monkeypatch):
    file = write(tmp_path / "proj/notes/a.txt", "boat")
    (tmp_path / "link.txt").symlink_to(file)
    monkeypatch.chdir(tmp_path / "proj")
    ways = ["notes/a.txt", file, "notes", "notes/../notes/a.txt", tmp_path / "link.txt"]
    found = [list(read_documents([way])) for way in ways[:-1]]
    assert found == [[Document("notes/a.txt", "boat", place(file))]] * 4
    assert list(read_documents(ways)) == found[0]
    monkeypatch.chdir(file.parent)
    assert list(read_documents(["a.txt"], base=tmp_path / "proj")) == found[0]
    assert next(iter(read_documents([file], base=tmp_path / "elsewhere"))).id == file.as_posix()


@pytest.mark.parametrize("name", [b"a\nb.txt", b"caf\xe9.txt", b"a\x7fb.txt"])
def test_a_name_that_cannot_be_stored_is_told_before_anything_is_read(tmp_path, name):
    write(tmp_path / "notes/good.txt", "good")
    write(tmp_path / "notes" / os.fsdecode(name), "bad name")
    with pytest.raises(DocumentError, match="the file's name"):
        read_documents([tmp_path / "notes"])
    bad = []
    assert [document.text for document in read_documents([tmp_path / "notes"], on_error=bad.append)] == ["good"]
    assert "the file's name" in bad[0].reason


def test_a_folder_says_what_it_left_out(tmp_path):
    for name in ("a.txt", "b.pdf", "sub/c.pdf", "d.docx", "LICENSE", ".hidden.pdf", ".git/x.pdf"):
        write(tmp_path / name, "x")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    files = DocumentFiles([tmp_path])
    assert files.left_out == {".pdf": 2, ".docx": 1, "without ending": 1, "broken link": 1, "linked folder": 1}
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DocumentError, match=r"holds no \.txt.* file, only 2 \.pdf, 1 \.docx"):
        DocumentFiles([tmp_path])


BAD = [
    b'{"text": "good"}',
    b'{"text": null}',
    b'{"text": "a", "x": NaN}',
    b'{"text": "a", "x": {"deep": [Infinity]}}',
    b'{"text": "lone \\ud800"}',
    b'{"text": "a", "id": "\\udfff"}',
    b'{"text": "a", "x": "\\ud800"}',
    b'{"text": ',
    b'{"text": "caf\xe9"}',
    b"[1]",
    b'{"text": "good too"}',
]


def test_bad_records_are_passed_over_and_told_if_asked_for(tmp_path):
    file = write(tmp_path / "x.jsonl", b"\n".join(BAD))
    latin = write(tmp_path / "y.txt", b"caf\xe9")
    wide = write(tmp_path / "z.csv", b'text,n\nfine,1\na,b,c\nk\xf6ln,3\n"open\n')
    bad = []
    read = list(read_documents([file, latin, wide], on_error=bad.append))
    assert [document.text for document in read] == ["good", "good too", "fine"]
    places = [(record.file, record.line) for record in bad]
    assert places == [
        *((str(file), line) for line in range(2, 11)),
        (str(latin), 1),
        *((str(wide), line) for line in (3, 4, 5)),
    ]
    facts = [json.loads(record.as_json()) for record in bad]
    assert all(set(fact) == {"file", "line", "reason", "record"} for fact in facts)
    assert facts[0]["record"] == {"text": None}
    assert facts[6]["record"] == '{"text": '
    for line in (4, 8):  # without being asked, the first one ends it
        one = write(tmp_path / "one.jsonl", BAD[line])
        with pytest.raises(DocumentError, match=r"one\.jsonl:1"):
            list(read_documents([one]))


def test_looking_through_names_every_bad_file_and_counts_the_documents(tmp_path):
    write(tmp_path / "a.txt", "good")
    write(tmp_path / "b.jsonl", '{"text": "b"}\n\n{"text": "c"}')
    files = DocumentFiles([tmp_path])
    assert files.look_through() == len(list(files.read())) == 3
    for name in ("p.txt", "q.txt"):
        write(tmp_path / name, b"caf\xe9")
    write(tmp_path / "r.jsonl", "no\nno\n")
    write(tmp_path / "new\nline.txt", "x")
    with pytest.raises(DocumentError) as raised:
        DocumentFiles([tmp_path]).look_through()
    message = str(raised.value)
    assert message.startswith("4 files cannot be read as they are: ")
    assert all(
        part in message for part in ("new\nline.txt: the file's name", "p.txt:1", "q.txt:1", "r.jsonl:1", "1 more")
    )
    assert DocumentFiles([tmp_path]).look_through(refuse=False) == 3


def test_looking_through_stops_where_all_is_bad(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"body": "a"}\n' * 5000)
    with pytest.raises(DocumentError, match=r"x\.jsonl:1: no field 'text'.*and at least 999 more"):
        DocumentFiles([file]).look_through()


def test_a_pipe_is_not_looked_through(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert DocumentFiles([tmp_path / "pipe.jsonl"]).look_through() is None


GOOD = {
    ".txt": "Köln\r\n東京",
    ".jsonl": "\n".join(json.dumps({"text": f"Köln {i}", "id": i, "x": [i / 7, {"y": None}]}) for i in range(5)),
    ".csv": 'text,id,n\n"a, ""b""\nc",1,2\nKöln,2,3.5\n',
    ".tsv": "text\tid\tn\na b\t1\t2\nKöln\t2\t3\n",
    ".html": PAGE,
}


@pytest.mark.parametrize("suffix", GOOD)
def test_whatever_bytes_a_file_holds_it_is_read_or_told(tmp_path, suffix):
    generator = random.Random(11)
    file = tmp_path / f"x{suffix}"
    told = read = 0
    for _ in range(400):
        data = bytearray(
            GOOD[suffix].encode(
                generator.choice(
                    ["utf-8", "utf-8", "utf-16", "utf-32", "latin-1"],
                ),
                "replace",
            )
        )
        for _ in range(generator.randrange(6)):
            place = generator.randrange(len(data))
            change = generator.randrange(4)
            if change == 0:
                data[place] ^= 1 << generator.randrange(8)
            elif change == 1:
                del data[place : place + generator.randrange(1, 9)]
            elif change == 2:
                data[place:place] = generator.choice(
                    [b"\x00", b"\xff\xfe", b'"', b"\n", b"\xed\xa0\x80", b"\\ud800", b"<![", b"{"]
                )
            else:
                data[place:place] = data[place // 2 : place]
            data = data or bytearray(b"\n")
        bad = []
        documents = list(DocumentFiles([write(file, bytes(data))]).read(bad.append))
        for document in documents:
            json.dumps([document.id, document.text, document.metadata], ensure_ascii=False, allow_nan=False).encode()
            assert "\0" not in document.text or suffix == ".jsonl"
        for record in bad:
            assert json.loads(record.as_json())["reason"]
        told, read = told + len(bad), read + len(documents)
    assert told > 50
    assert read > 50


class TestParquet:
    @pytest.fixture(autouse=True)
    def _pyarrow(self):
        self.pa = pytest.importorskip("pyarrow")
        self.pq = pytest.importorskip("pyarrow.parquet")

    @pytest.mark.parametrize("kind", ["date32", "date64", "timestamp[ms]", "timestamp[us]"])
    def test_a_date_beyond_pythons_is_told_with_its_row(self, tmp_path, kind):
        type_ = {"timestamp[ms]": self.pa.timestamp("ms"), "timestamp[us]": self.pa.timestamp("us")}.get(kind)
        type_ = type_ or getattr(self.pa, kind)()
        largest = {"date32": 2**31 - 1, "timestamp[us]": 2**62}.get(kind, 2**40 * 86_400)
        raw = self.pa.array([0, largest, 0], self.pa.int32() if kind == "date32" else self.pa.int64())
        table = self.pa.table({"text": ["a", "b", "c"], "day": raw.cast(type_)})
        self.pq.write_table(table, tmp_path / "x.parquet")
        with pytest.raises(
            DocumentError, match=r"x\.parquet:2: the column 'day' holds a .* beyond what Python's dates"
        ):
            texts(tmp_path / "x.parquet")
        bad = []
        assert texts(tmp_path / "x.parquet", on_error=bad.append) == ["a", "c"]
        assert [record.line for record in bad] == [2]
        assert texts(tmp_path / "x.parquet", metadata_fields=[]) == ["a", "b", "c"]

    def test_two_columns_of_one_name_are_refused(self, tmp_path):
        table = self.pa.Table.from_arrays([self.pa.array(["a"]), self.pa.array(["b"])], names=["text", "text"])
        self.pq.write_table(table, tmp_path / "x.parquet")
        with pytest.raises(DocumentError, match=r"x\.parquet: it has two columns called 'text'"):
            texts(tmp_path / "x.parquet")

    def test_text_that_is_not_utf_8_is_told_with_its_row(self, tmp_path):
        raw = self.pa.array([b"good", b"caf\xe9"], self.pa.binary())
        column = self.pa.Array.from_buffers(self.pa.string(), 2, raw.buffers())
        self.pq.write_table(self.pa.table({"text": column}), tmp_path / "x.parquet")
        with pytest.raises(DocumentError, match=r"x\.parquet:2: the column 'text' holds bytes that are not UTF-8"):
            texts(tmp_path / "x.parquet")

    def test_every_damage_is_told_with_the_files_name(self, tmp_path):
        rows = [{"text": f"text {i} " * 9, "n": i, "day": datetime.date(2020, 1, 1), "x": [i / 7]} for i in range(300)]
        self.pq.write_table(self.pa.Table.from_pylist(rows), tmp_path / "good.parquet")
        good = (tmp_path / "good.parquet").read_bytes()
        generator = random.Random(7)
        told = 0
        for _ in range(300):
            data = bytearray(good)
            if generator.random() < 0.2:
                del data[generator.randrange(len(data)) :]
            else:
                # Much of the damage does no harm in the middle of a page: half of it goes to the footer.
                first = len(data) - 1500 if generator.random() < 0.5 else 0
                data[generator.randrange(first, len(data))] ^= 1 << generator.randrange(8)
            try:
                texts(write(tmp_path / "bad.parquet", bytes(data)))
            except DocumentError as error:
                assert str(error).startswith(f"{tmp_path / 'bad.parquet'}"), error  # noqa: PT017
                told += 1
        assert told > 60
