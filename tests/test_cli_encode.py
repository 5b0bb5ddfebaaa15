"""`trivec encode` and the files it writes."""

import csv

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec.cli.app import run
from trivec.embeddings import M3Embedding
from trivec.errors import TrivecError
from trivec.sparse import SparseMatrix
from trivec.vector_files import save_vectors

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
    assert encode(documents, "--out", out, "-m", tiny_checkpoint) == 1
    assert "texts.csv:" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.csv", out.name]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_no_documents_give_a_readable_file(tmp_path, suffix):
    out = tmp_path / f"x{suffix}"
    assert save_vectors(out, []) == 0
    if suffix == ".npz":
        assert np.load(out)["ids"].shape == (0,)
    else:
        assert pytest.importorskip("pyarrow.parquet").read_table(out).num_rows == 0


def test_long_documents_are_cut_with_a_warning(tiny_checkpoint, documents, tmp_path, capsys):
    assert encode(documents, "--out", tmp_path / "x.npz", "-m", tiny_checkpoint, "--max-length", 5) == 0
    assert f"warning: {len(TEXTS)} of {len(TEXTS)} texts had more than max_length=5" in capsys.readouterr().err


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
