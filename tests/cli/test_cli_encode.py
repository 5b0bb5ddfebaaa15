"""`trivec encode` and the files it writes."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec.cli.app import run
from trivec.documents import content_id
from trivec.errors import TrivecError
from trivec.vectors.embeddings import M3Embedding
from trivec.vectors.files import save_vectors, write_json_lines
from trivec.vectors.sparse import SparseMatrix

TEXTS = [text for language in SENTENCES.values() for text in language]


@pytest.fixture
def documents(tmp_path):
    file = tmp_path / "texts.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "text"], *([f"t{i}", text] for i, text in enumerate(TEXTS))])
    return file


@pytest.fixture
def expected(tiny_model):
    return tiny_model.encode(TEXTS, return_colbert_vecs=True)


def encode(*arguments):
    return run(["encode", *map(str, arguments), "--precision", "fp32"])


def test_npz_holds_what_the_model_gives(tiny_checkpoint, documents, expected, tmp_path, capsys):
    out = tmp_path / "x.npz"
    assert encode(documents, "--out", out, "-m", tiny_checkpoint, "--colbert") == 0
    assert capsys.readouterr().out == ""
    with np.load(out) as arrays:
        assert arrays["ids"].tolist() == [f"t{i}" for i in range(len(TEXTS))]
        np.testing.assert_allclose(arrays["dense"], expected.dense, atol=1e-5)
        parts = tuple(arrays[f"sparse_{part}"] for part in ("data", "indices", "indptr"))
        sparse = SparseMatrix(parts, shape=tuple(arrays["sparse_shape"]))
        np.testing.assert_allclose(sparse.toarray(), expected.sparse.toarray(), atol=1e-5)
        offsets = arrays["colbert_offsets"]
        for i, vectors in enumerate(expected.colbert_vecs):
            np.testing.assert_allclose(arrays["colbert_vecs"][offsets[i] : offsets[i + 1]], vectors, atol=1e-5)


def test_parquet_holds_what_the_model_gives(tiny_checkpoint, documents, expected, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "x.parquet"
    assert encode(documents, "--out", out, "-m", tiny_checkpoint, "--colbert") == 0
    rows = pq.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == [f"t{i}" for i in range(len(TEXTS))]
    for i, row in enumerate(rows):
        np.testing.assert_allclose(row["dense"], expected.dense[i], atol=1e-5)
        assert row["sparse_indices"] == expected.sparse[i].indices.tolist()
        np.testing.assert_allclose(row["sparse_values"], expected.sparse[i].data, atol=1e-5)
        np.testing.assert_allclose(row["colbert_vecs"], expected.colbert_vecs[i], atol=1e-5)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_only_the_vectors_asked_for_are_there(tiny_checkpoint, documents, tmp_path, suffix):
    out = tmp_path / f"x{suffix}"
    assert encode(documents, "--out", out, "-m", tiny_checkpoint, "--no-sparse") == 0
    if suffix == ".npz":
        assert set(np.load(out)) == {"ids", "dense"}
    else:
        assert pytest.importorskip("pyarrow.parquet").read_table(out).column_names == ["id", "dense"]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tiny_checkpoint, documents, tmp_path, suffix, capsys):
    out = tmp_path / f"x{suffix}"
    out.write_bytes(b"old")
    with documents.open("a", encoding="utf-8") as stream:
        stream.write('t99,"never closed\n')
    assert encode(documents, "--out", out, "--force", "-m", tiny_checkpoint) == 1
    assert "texts.csv:" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.csv", out.name]


def test_an_error_in_the_middle_leaves_the_old_file_and_is_not_taken_for_one_of_writing(tmp_path):
    out = tmp_path / "x.npz"
    out.write_bytes(b"old")

    def vectors():
        yield "a", M3Embedding(np.zeros(4, np.float32), None, None)
        raise FileNotFoundError("the caller's own")

    with pytest.raises(FileNotFoundError, match="the caller's own"):
        save_vectors(out, vectors())
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_no_documents_give_a_file_of_the_same_kinds_without_rows(tiny_checkpoint, tmp_path, suffix):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "one.jsonl").write_text('{"text": "boat"}')
    for name in ("empty", "one"):
        kinds = ("--colbert", "-m", tiny_checkpoint)
        assert encode(tmp_path / f"{name}.jsonl", "--out", tmp_path / f"{name}{suffix}", *kinds) == 0
    if suffix == ".npz":
        empty, one = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("empty", "one"))
        assert set(empty) == set(one)
        assert empty["ids"].shape == (0,)
        assert empty["dense"].shape == empty["colbert_vecs"].shape == (0, 32)
        assert empty["sparse_shape"].tolist() == [0, one["sparse_shape"][1]]
        assert {name: array.dtype for name, array in empty.items() if name != "ids"} == {
            name: array.dtype for name, array in one.items() if name != "ids"
        }
    else:
        pq = pytest.importorskip("pyarrow.parquet")
        empty, one = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("empty", "one"))
        assert empty.num_rows == 0
        assert empty.schema == one.schema


def process(*arguments, cwd, **options):
    command = [sys.executable, "-m", "trivec", "encode", *map(os.fspath, arguments), "--precision", "fp32"]
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False, **options)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_piped_in_comes_out_as_json_lines(tiny_checkpoint, tiny_model, tmp_path, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    options = ("--jsonl", "--colbert", "-m", tiny_checkpoint)
    lines = f"{TEXTS[0]}\n\n{TEXTS[1]}\n".encode()
    records = "\n".join(json.dumps({"id": f"Köln {i}", "text": TEXTS[i]}, ensure_ascii=False) for i in (0, 1)).encode()
    expected = tiny_model.encode(TEXTS[:2], return_colbert_vecs=True)
    outputs = [process("-", *options, cwd=tmp_path, input=given, env=environment) for given in (lines, records)]
    for done in outputs:
        assert (done.returncode, done.stderr) == (0, b"")
        rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
        for row, vectors in zip(rows, expected, strict=True):
            np.testing.assert_allclose(row["dense"], vectors.dense, atol=1e-5)
            assert row["sparse_indices"] == vectors.sparse.indices.tolist()
            np.testing.assert_allclose(row["sparse_values"], vectors.sparse.data, atol=1e-5)
            np.testing.assert_allclose(row["colbert_vecs"], vectors.colbert_vecs, atol=1e-5)
    ids = [[json.loads(line)["id"] for line in done.stdout.splitlines()] for done in outputs]
    assert ids[0] == [content_id(TEXTS[0]), content_id(TEXTS[1])]
    assert ids[1] == ["Köln 0", "Köln 1"]


def test_json_lines_give_float32_back_unchanged(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**31, 2000, dtype=np.uint32).view(np.float32)
    vector = np.concatenate([bits[np.isfinite(bits)], np.float32([0, -0.0, 1e-45, 3.4028235e38, 0.1])])
    with (tmp_path / "x.jsonl").open("w") as stream:
        assert write_json_lines(stream, [("a", M3Embedding(vector, None, None))]) == 1
    read = np.float32(json.loads((tmp_path / "x.jsonl").read_text())["dense"])
    np.testing.assert_array_equal(read, vector)


def test_a_reader_of_json_lines_may_leave(tiny_checkpoint, tmp_path):
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS * 20))
    command = [sys.executable, "-m", "trivec", "encode", "x.jsonl", "--jsonl", "-m", str(tiny_checkpoint)]
    piped = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with piped:
        assert json.loads(piped.stdout.readline())["id"] == "x.jsonl:1"
        piped.stdout.close()
        assert piped.stderr.read() == b""
    assert piped.returncode == 0


@pytest.mark.parametrize("arguments", [["--jsonl", "--out", "x.npz"], []])
def test_where_to_write_must_be_clear(documents, tiny_checkpoint, arguments, capsys):
    assert encode(documents, *arguments, "-m", tiny_checkpoint) == 2
    assert "--out FILE or --jsonl" in capsys.readouterr().err


def test_a_file_that_exists_is_not_replaced_unasked(tiny_checkpoint, documents, tmp_path, capsys):
    out = tmp_path / "x.npz"
    out.write_bytes(b"old")
    assert encode(documents, "--out", out, "-m", "./no-such-model") == 1
    assert f"error: {out} exists: add --force" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert encode(documents, "--out", out, "--force", "-m", tiny_checkpoint) == 0
    assert np.load(out)["ids"].shape == (len(TEXTS),)


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0)])
def test_on_a_terminal_it_asks(tiny_checkpoint, documents, tmp_path, answer, code):
    pty = pytest.importorskip("pty")
    out = tmp_path / "x.npz"
    out.write_bytes(b"old")
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [sys.executable, "-m", "trivec", "encode", documents, "--out", "x.npz", "-m", tiny_checkpoint]
    done = subprocess.run(
        [*map(str, command)], cwd=tmp_path, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, check=False
    )
    os.close(theirs)
    assert b"x.npz exists. Replace it? [y/N]" in os.read(ours, 4096)
    os.close(ours)
    assert (done.returncode, done.stdout) == (code, b"")
    assert (out.read_bytes() == b"old") is (code == 1)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_disk_that_is_full_is_told_with_the_file(tiny_checkpoint, tmp_path, suffix):
    # A limit on the size of files stands for a full disk, which fails writing in the same way.
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS * 20))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = process("x.jsonl", "--out", f"x{suffix}", "-m", tiny_checkpoint, cwd=tmp_path, preexec_fn=limit)
    assert (done.returncode, done.stderr.decode()) == (1, f"error: cannot write x{suffix}: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.fixture
def half_way(tiny_checkpoint, tmp_path):
    """Start encoding processes that have written a part of their file and wait for more input; end them after."""
    os.mkfifo(tmp_path / "slow.jsonl")
    # Opened for reading too, so that it does not wait for the command.
    stream = os.fdopen(os.open(tmp_path / "slow.jsonl", os.O_RDWR), "w", encoding="utf-8")
    started = []

    def start():
        known = set(tmp_path.iterdir())
        command = [sys.executable, "-m", "trivec", "encode", "slow.jsonl", "--out", "x.parquet", "-m"]
        encoding = subprocess.Popen([*command, str(tiny_checkpoint)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        started.append(encoding)
        deadline = time.monotonic() + 60
        while not (new := set(tmp_path.iterdir()) - known) and time.monotonic() < deadline:
            time.sleep(0.05)
        (part,) = new
        return encoding, part

    yield start
    for encoding in started:
        encoding.kill()
        encoding.communicate()
    stream.close()


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 143, "terminated")],
)
def test_a_signal_removes_the_half_file_and_says_what_was_done(half_way, tmp_path, number, code, told):
    encoding, part = half_way()
    assert part.name.startswith(".x.parquet.")
    encoding.send_signal(number)
    assert encoding.wait(60) == code
    assert encoding.stderr.read() == (
        f"{told}: 0 documents finished; nothing was written to x.parquet; the same command begins anew\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["slow.jsonl"]


def test_the_next_run_removes_what_a_killed_one_left_and_not_what_a_live_one_writes(
    half_way, documents, tiny_checkpoint, tmp_path
):
    dead, left = half_way()
    live, kept = half_way()
    dead.kill()
    dead.wait(60)
    assert left.exists()
    assert encode(documents, "--out", tmp_path / "x.parquet", "-m", tiny_checkpoint) == 0
    assert not left.exists()
    assert kept.exists()
    assert live.poll() is None


def test_bad_records_are_skipped_and_listed_if_asked_for(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_bytes(b"caf\xe9")
    (notes / "b.jsonl").write_text('{"text": "boat"}\n{"text": null}\n{"text": \n', encoding="utf-8")
    (notes / "c.pdf").write_bytes(b"")
    assert encode("notes", "--out", "x.npz", "-m", "./no-such-model") == 1
    error = capsys.readouterr().err
    assert error.startswith("left out: 1 .pdf\nerror: 2 files cannot be read as they are: notes/a.txt:1: byte 0xe9")
    assert "notes/b.jsonl:2: the text field 'text' holds null" in error
    assert "--on-error skip" in error
    assert encode("notes", "--out", "x.npz", "--on-error", "skip", "-m", tiny_checkpoint) == 0
    assert "warning: 3 records skipped: x.npz.skipped.jsonl says which and why" in capsys.readouterr().err
    skipped = [json.loads(line) for line in (tmp_path / "x.npz.skipped.jsonl").read_text().splitlines()]
    assert [(each["file"], each["line"]) for each in skipped] == [
        ("notes/a.txt", 1),
        ("notes/b.jsonl", 2),
        ("notes/b.jsonl", 3),
    ]
    assert np.load("x.npz")["ids"].tolist() == ["notes/b.jsonl:1"]
    (notes / "old.skipped.jsonl").write_text('{"file": "x"}')  # of an earlier run: no document
    assert encode("notes", "--encoding", "latin-1", "--on-error", "skip", "--out", "z.npz", "-m", tiny_checkpoint) == 0
    assert "2 records skipped" in capsys.readouterr().err
    assert encode("notes/a.txt", "--encoding", "latin-1", "--out", "y.npz", "-m", tiny_checkpoint) == 0
    assert not (tmp_path / "y.npz.skipped.jsonl").exists()


def test_long_documents_are_cut_with_a_warning(tiny_checkpoint, documents, tmp_path, capsys):
    assert encode(documents, "--out", tmp_path / "x.npz", "-m", tiny_checkpoint, "--max-length", 5) == 0
    assert f"warning: {len(TEXTS)} of {len(TEXTS)} texts had more than --max-length 5" in capsys.readouterr().err


def test_other_file_names_are_refused(tmp_path):
    with pytest.raises(TrivecError, match=r"must end in \.npz or \.parquet"):
        save_vectors(tmp_path / "x.csv", [])


def test_where_nothing_can_be_written_is_said_before_the_model_loads(documents, tmp_path, capsys):
    (tmp_path / "folder.npz").mkdir()
    for out in (tmp_path / "folder.npz", "/proc/x.npz", tmp_path / "texts.csv" / "x.npz"):
        assert encode(documents, "--out", out, "-m", "./no-such-model") == 1
        assert f"error: cannot write {out}:" in capsys.readouterr().err


def test_token_vectors_of_long_texts_are_written_in_groups_that_fit_into_memory(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    vectors = np.arange(8192 * 1024, dtype=np.float32).reshape(8192, 1024)  # 32 MiB
    out = tmp_path / "x.parquet"
    assert save_vectors(out, ((str(i), M3Embedding(None, None, vectors)) for i in range(3))) == 3
    with pq.ParquetFile(out) as written:
        assert [written.metadata.row_group(i).num_rows for i in range(written.num_row_groups)] == [2, 1]
        last = written.read_row_group(1)["colbert_vecs"][0]
        assert len(last) == 8192
        np.testing.assert_array_equal(last[8191].values, vectors[8191])
