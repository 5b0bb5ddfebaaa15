"""Folders of encoded files straight into Milvus Lite."""

import json
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trivec.bulk import layout
from trivec.documents import DocumentError
from trivec.errors import TrivecError
from trivec.milvus import (
    HNSW,
    CollectionMismatchError,
    M3Collection,
    MilvusError,
    ModelRecord,
    import_folder,
    lite_loading,
)
from trivec.shards.columns import packed
from trivec.shards.encoder import Encoder

# The tiny model's tokenizer knows few words: their number tells the texts apart.
DOCUMENTS = [
    {
        "id": f"d{i}",
        "text": "a boat " * (i + 1) + "on the river",
        "metadata": {"number": i, "lang": "de" if i % 3 else "en"},
    }
    for i in range(60)
]


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint):
    """The documents, encoded, in trivec's layout."""
    columns = {name: [each[name] for each in DOCUMENTS] for name in ("id", "text")}
    columns["metadata"] = [json.dumps(each["metadata"]) for each in DOCUMENTS]
    return Encoder(tiny_checkpoint, precision="fp32")(pa.table(columns))


def write(folder, table, files=3, *, milvus=False):
    folder.mkdir(exist_ok=True)
    size = -(-table.num_rows // files)
    for i in range(files):
        part = table.slice(i * size, size)
        pq.write_table(layout.to_milvus(part) if milvus else part, folder / f"part-{i}.parquet")
    return folder


@pytest.fixture
def load(tmp_path, tiny_model):
    def call(folder, **arguments):
        defaults = {"model": ModelRecord.of(tiny_model), "show_progress": False}
        return import_folder(folder, "c", tmp_path / "m.db", **(defaults | arguments))

    return call


def rows(uri, name="c"):
    """All rows of a collection as they are stored, by id."""
    with M3Collection(name, uri=uri) as collection:
        found = collection.client.query(name, filter="", output_fields=["*"], limit=1000)
    return {
        row["id"]: {**row, "dense": np.asarray(row["dense"], np.float32).tobytes(), "sparse": dict(row["sparse"])}
        for row in found
    }


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("milvus", [True, False])
@pytest.mark.parametrize("partition_key", [None, "lang", "number:int"])
def test_rows_are_those_of_adding_the_documents(
    load, tmp_path, encoded, tiny_model, monkeypatch, direct, milvus, partition_key
):
    if not direct:  # as with a Milvus Lite whose files are others
        monkeypatch.setattr(lite_loading, "loader", lambda *_: None)
    done = load(write(tmp_path / "files", encoded, milvus=milvus), partition_key=partition_key)
    assert (done.files, done.rows, done.found, done.missing, done.count) == (3, 60, 0, 0, 60)
    with M3Collection("c", tiny_model, tmp_path / "other.db", partition_key=partition_key) as collection:
        collection.add(DOCUMENTS, show_progress=False)
    imported, added = rows(tmp_path / "m.db"), rows(tmp_path / "other.db")
    assert imported.keys() == added.keys()
    for identifier, row in imported.items():
        other = added[identifier]
        assert {name: row[name] for name in row if name not in ("dense", "sparse")} == {
            name: other[name] for name in other if name not in ("dense", "sparse")
        }
        dense = [np.frombuffer(each["dense"], np.float32) for each in (row, other)]
        np.testing.assert_allclose(*dense, atol=1e-6)
        assert row["sparse"].keys() == other["sparse"].keys()


@pytest.fixture(scope="module", params=["fp16", "int8"])
def with_tokens(request, tiny_checkpoint):
    """As `encoded`, with token vectors."""
    columns = {name: [each[name] for each in DOCUMENTS] for name in ("id", "text")}
    columns["metadata"] = [json.dumps(each["metadata"]) for each in DOCUMENTS]
    return Encoder(tiny_checkpoint, token_vectors=request.param, precision="fp32")(pa.table(columns))


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("milvus", [True, False])
@pytest.mark.parametrize(("form", "pool"), [("fp16", 1), ("int8", 2)])
def test_token_vectors_are_those_of_adding_the_documents(
    load, tmp_path, with_tokens, tiny_model, monkeypatch, direct, milvus, form, pool
):
    if not direct:
        monkeypatch.setattr(lite_loading, "loader", lambda *_: None)
    folder = write(tmp_path / "files", with_tokens if milvus else packed(with_tokens), milvus=milvus)
    load(folder, token_vectors=form, pool=pool)
    ids = [each["id"] for each in DOCUMENTS]
    with (
        M3Collection("c", tiny_model, tmp_path / "other.db", token_vectors=form, pool=pool) as added,
        M3Collection("c", tiny_model, tmp_path / "m.db", token_vectors=form, pool=pool) as imported,
    ):
        added.add(DOCUMENTS, show_progress=False)
        both = []
        for collection in (added, imported):
            field, stored = collection._table.tokens, collection._table.stored_tokens(ids)
            both.append([field.vectors(stored[each]["token_vectors"], stored[each]["text"]) for each in ids])
        # Vectors that were rounded before they are pooled may be joined otherwise, where they lie equally close.
        for one, other in zip(*both, strict=True):
            assert one.shape == other.shape
            if pool == 1:
                np.testing.assert_allclose(one, other, atol=0.02)
        texts = [each["text"] for each in DOCUMENTS[::7]]
        found = [collection.search(texts, "dense", rerank="colbert", limit=3) for collection in (added, imported)]
        scores = [[[hit.colbert_score for hit in hits] for hits in each] for each in found]
        np.testing.assert_allclose(scores[0], scores[1], atol=0.02 if pool == 1 else 0.05)


def test_token_vectors_that_are_not_asked_for_are_left_out(load, tmp_path, with_tokens):
    load(write(tmp_path / "files", packed(with_tokens)))
    with M3Collection("c", uri=tmp_path / "m.db") as collection:
        assert (collection.token_vectors, collection.count()) == (None, 60)


def test_token_vectors_that_are_not_there_are_told(load, tmp_path, encoded):
    with pytest.raises(TrivecError, match="has no token vectors to keep: encode with --token-vectors"):
        load(write(tmp_path / "files", encoded), token_vectors="fp16")


def test_what_is_imported_is_found(load, tmp_path, encoded, tiny_model):
    load(write(tmp_path / "files", encoded))
    with M3Collection("c", tiny_model, tmp_path / "m.db") as collection:
        for each in DOCUMENTS[::10]:
            (hit,) = collection.search(each["text"], "dense", limit=1)
            assert (hit.id, hit.text, hit.metadata) == (each["id"], each["text"], each["metadata"])
            assert (
                collection.search(each["text"], limit=60, filter=f"number == {each['metadata']['number']}")[0].id
                == hit.id
            )
        assert collection.recorded_model == ModelRecord.of(tiny_model)


def test_again_imports_what_is_new_or_changed(load, tmp_path, encoded, tiny_model):
    folder = write(tmp_path / "files", encoded)
    (folder / "part-2.parquet").rename(tmp_path / "later")
    assert load(folder).count == 40
    (tmp_path / "later").rename(folder / "part-2.parquet")
    assert (load(folder).found, load(folder).found) == (2, 3)
    # A row of a file that was written again takes the place of the one that has its id, metadata and all.
    position = encoded.schema.get_field_index("metadata")
    changed = encoded.slice(0, 19).set_column(position, "metadata", pa.array([None, *['{"other": 1}'] * 18]))
    pq.write_table(changed, folder / "part-0.parquet")
    done = load(folder)
    assert (done.files, done.found, done.count) == (1, 2, 60)
    with M3Collection("c", tiny_model, tmp_path / "m.db") as collection:
        assert collection.get("d0").metadata == {}
        assert collection.get("d1").metadata == {"other": 1}
        assert collection.get("d19").metadata["number"] == 19


def test_adding_after_importing_and_importing_after_adding(load, tmp_path, encoded, tiny_model):
    with M3Collection("c", tiny_model, tmp_path / "m.db") as collection:
        collection.add([{"id": "d3", "text": "old", "metadata": {"old": True}}, {"id": "x", "text": "stays"}])
    assert load(write(tmp_path / "files", encoded)).count == 61
    with M3Collection("c", tiny_model, tmp_path / "m.db") as collection:
        assert collection.get("d3").metadata == DOCUMENTS[3]["metadata"]
        collection.add([{"id": "d4", "text": "new"}], show_progress=False)
        collection.delete("d5")
        assert (collection.get("d4").text, collection.get("d4").metadata, collection.count()) == ("new", {}, 60)
    with M3Collection("c", tiny_model, tmp_path / "m.db") as collection:  # as it is on disk
        assert (collection.get("d4").text, collection.get("d5"), collection.count()) == ("new", None, 60)


def test_ids_that_come_twice_are_stored_once(load, tmp_path, encoded):
    folder = write(tmp_path / "files", pa.concat_tables([encoded, encoded.slice(5, 10), encoded.slice(7, 1)]))
    assert load(folder).count == 60


def test_blank_texts_are_left_out(load, tmp_path, encoded):
    position = encoded.schema.get_field_index("text")
    blank = encoded.slice(0, 2).set_column(position, "text", pa.array([" ", "a mill"]))
    assert load(write(tmp_path / "files", blank, 1)).count == 1


def test_a_dropped_collection_gets_everything_again(load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    load(folder)
    with M3Collection("c", uri=tmp_path / "m.db") as collection:
        collection.client.drop_collection("c")
    assert (load(folder).files, len(list(folder.glob(".imported-*.json")))) == (3, 2)


@pytest.mark.parametrize("milvus", [True, False])
def test_what_is_wrong_with_a_folder_is_said(load, tmp_path, encoded, milvus):
    with pytest.raises(TrivecError, match="holds no encoded files"):
        load(tmp_path / "none")
    folder = write(tmp_path / "files", encoded, milvus=milvus)
    with pytest.raises(TrivecError, match="does not say which model its vectors are of"):
        load(folder, model=None)
    with pytest.raises(MilvusError, match="is for a Milvus server"):
        load(folder, dense_index=HNSW())
    whole = (folder / "part-1.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrivecError, match=r"part-1.parquet is damaged"):
        load(folder)
    (folder / "part-1.parquet").write_bytes(whole[:400] + bytes(200) + whole[600:])
    with pytest.raises(TrivecError, match=r"part-1.parquet is damaged"):
        load(folder)
    pq.write_table(encoded.drop_columns(["sparse"]), folder / "part-1.parquet")
    with pytest.raises(TrivecError, match=r"part-1.parquet has no column 'sparse'"):
        load(folder)


def test_rows_that_cannot_be_stored_are_named_with_their_file(load, tmp_path, encoded):
    position = encoded.schema.get_field_index("text")
    long = encoded.slice(0, 2).set_column(position, "text", pa.array(["fine", "x" * 70_000]))
    with pytest.raises(DocumentError, match=r"part-0.parquet: document 'd1': its text has 70,000 bytes"):
        load(write(tmp_path / "files", long, 1))


def test_vectors_of_another_model_or_size_are_refused(load, tmp_path, encoded, tiny_model):
    folder = write(tmp_path / "files", encoded)
    load(folder)
    with pytest.raises(CollectionMismatchError, match="its vectors are those of the model"):
        load(folder, model=ModelRecord("other", "f" * 64, "fp32"))
    position = encoded.schema.get_field_index("dense")
    other = pa.array([[0.5] * 8] * 60, pa.list_(pa.float32(), 8))
    pq.write_table(encoded.set_column(position, "dense", other), folder / "part-9.parquet")
    with pytest.raises(TrivecError, match=r"dense vectors of part-9.parquet have 8 dimensions, others 32"):
        load(folder)


def test_a_killed_run_goes_on_and_the_count_is_exact(tmp_path, encoded, tiny_checkpoint, tiny_model):
    many = pa.concat_tables(
        [encoded.set_column(0, "id", pa.array([f"d{copy}-{i}" for i in range(encoded.num_rows)])) for copy in range(40)]
    )
    folder = write(tmp_path / "files", many, files=40)
    command = [
        sys.executable,
        "-m",
        "trivec",
        "import",
        folder,
        "-c",
        "c",
        "--uri",
        tmp_path / "m.db",
        "-m",
        tiny_checkpoint,
    ]
    for wanted in (3, 12):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and _done(folder) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
    before = _done(folder)
    assert before >= 3
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{40 - before} files imported" in done.stderr or before == 40
    assert "collection c now holds 2400" in done.stderr
    with M3Collection("c", tiny_model, tmp_path / "m.db") as collection:
        assert collection.count() == 2400
        for i in range(0, 60, 13):
            found = {hit.id for hit in collection.search(DOCUMENTS[i]["text"], "dense", limit=40)}
            assert found == {f"d{copy}-{i}" for copy in range(40)}


def _done(folder):
    notes = [json.loads(path.read_text()) for path in folder.glob(".imported-*.json")]
    return max((len(note["done"]) for note in notes), default=0)
