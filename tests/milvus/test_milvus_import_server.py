"""Folders of encoded files through a server's import API; the server is `import_stand_in`, which says what it shows."""

import json
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from import_stand_in import StandIn

from trivec.bulk import layout
from trivec.bulk.partition_key import PartitionKey
from trivec.errors import TrivecError
from trivec.milvus import CollectionMismatchError, M3Collection, MilvusError, ModelRecord, import_folder
from trivec.shards.columns import packed
from trivec.shards.encoder import Encoder
from trivec.vectors.pooling import pooled

# The tiny model's tokenizer knows few words: their number tells the texts apart.
TEXTS = ["a boat " * (i + 1) + "on the river" for i in range(40)]


@pytest.fixture
def server(tmp_path):
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def encoded(tiny_checkpoint):
    """The texts, encoded, in trivec's layout."""
    table = pa.table(
        {
            "id": [f"d{i}" for i in range(len(TEXTS))],
            "text": TEXTS,
            "metadata": [json.dumps({"lang": "en" if i % 2 else "de", "number": i}) for i in range(len(TEXTS))],
        }
    )
    return Encoder(tiny_checkpoint, precision="fp32")(table)


def write(folder, table, files=4, *, own=False, partition_key=None):
    """Write a table as so many files, in Milvus' layout or trivec's own."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-table.num_rows // files)
    for i in range(files):
        part = table.slice(i * size, size)
        pq.write_table(
            part if own else layout.to_milvus(part, partition_key=partition_key), folder / f"part-{i}.parquet"
        )
    return folder


@pytest.fixture
def load(server, tiny_model):
    def call(folder, **arguments):
        defaults = {"model": ModelRecord.of(tiny_model), "show_progress": False}
        return import_folder(folder, "c", server.uri, **(defaults | arguments))

    return call


@pytest.fixture(autouse=True)
def one_file_a_job(monkeypatch):
    monkeypatch.setattr("trivec.milvus.server_import._FILES_PER_JOB", 1)
    monkeypatch.setattr("trivec.milvus.server_import._JOBS_AT_ONCE", 2)


def test_what_is_imported_is_found(server, load, tmp_path, encoded, tiny_model):
    folder = write(tmp_path / "files", encoded)
    done = load(folder, token="root:secret", db_name="")
    assert (done.files, done.rows, done.found, done.count) == (4, 40, 0, 40)
    assert server.headers["Authorization"] == "Bearer root:secret"
    assert server.imported == {str(folder / f"part-{i}.parquet"): 1 for i in range(4)}
    creates = [body for action, body in server.requests if action == "create"]
    assert creates[0] == {"collectionName": "c", "files": [[str(folder / "part-0.parquet")]]}
    with M3Collection("c", tiny_model, server.uri) as collection:
        for i in range(0, len(TEXTS), 10):
            (hit,) = collection.search(TEXTS[i], "dense", limit=1)
            assert (hit.id, hit.text, hit.metadata["number"]) == (f"d{i}", TEXTS[i], i)
        assert collection.recorded_model == ModelRecord.of(tiny_model)
    again = load(folder)
    assert (again.files, again.found, again.count) == (0, 4, 40)
    assert sum(server.imported.values()) == 4


def test_several_files_make_one_job(server, load, tmp_path, encoded, monkeypatch):
    monkeypatch.setattr("trivec.milvus.server_import._FILES_PER_JOB", 3)
    load(write(tmp_path / "files", encoded))
    assert [len(body["files"]) for action, body in server.requests if action == "create"] == [3, 1]


def test_files_encoded_later_are_imported_later(server, load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    (folder / "part-3.parquet").rename(tmp_path / "later")
    assert load(folder).files == 3
    (tmp_path / "later").rename(folder / "part-3.parquet")
    done = load(folder)
    assert (done.files, done.rows, done.found, done.count) == (1, 10, 3, 40)


def test_files_are_copied_into_the_bucket_and_named_by_their_path_there(server, load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    bucket = server.storage / "bulk"
    assert load(folder, bucket=bucket.as_uri()).count == 40
    (made,) = bucket.iterdir()
    assert sorted(path.name for path in made.iterdir()) == [f"part-{i}.parquet" for i in range(4)]
    assert set(server.imported) == {str(made / f"part-{i}.parquet") for i in range(4)}
    assert (made / "part-0.parquet").read_bytes() == (folder / "part-0.parquet").read_bytes()


def test_trivecs_own_layout_is_converted_on_the_way_into_the_bucket(server, load, tmp_path, encoded, tiny_model):
    folder = write(tmp_path / "files", encoded, own=True)
    with pytest.raises(TrivecError, match=r"cannot read the columns of part-0.parquet .* name the bucket"):
        load(folder)
    assert load(folder, bucket=str(server.storage)).count == 40
    with M3Collection("c", tiny_model, server.uri) as collection:
        assert collection.search(TEXTS[7], "dense", limit=1)[0].id == "d7"


@pytest.mark.parametrize("own", [True, False])
def test_a_partition_key_becomes_a_column_on_the_way(server, load, tmp_path, encoded, own):
    folder = write(tmp_path / "files", encoded, own=own)
    assert load(folder, bucket=str(server.storage), partition_key="lang").count == 40
    with M3Collection("c", uri=server.uri) as collection:
        assert collection.get("d1").metadata == {"lang": "en", "number": 1}


def test_files_with_the_partition_key_need_no_bucket(load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded, partition_key=PartitionKey("lang"))
    assert load(folder, partition_key="lang").count == 40


@pytest.mark.parametrize("milvus", [True, False])
@pytest.mark.parametrize(
    ("version", "form", "pool", "kind"),
    [
        ("v2.6.4", "fp16", 1, pa.float32()),
        ("v2.6.4", "fp16", 2, pa.float32()),
        ("v3.0.0", "fp16", 1, pa.uint8()),
        ("v3.0.0", "int8", 1, pa.int8()),
    ],
)
def test_token_vectors_reach_a_server_in_its_numbers(
    tmp_path, encoded, tiny_checkpoint, tiny_model, milvus, version, form, pool, kind
):
    columns = ["id", "text", "metadata"]
    table = Encoder(tiny_checkpoint, token_vectors="fp16", precision="fp32")(encoded.slice(0, 8).select(columns))
    folder = write(tmp_path / "files", table if milvus else packed(table), files=2, own=not milvus)
    server = StandIn(tmp_path, version)
    try:
        arguments = {"model": ModelRecord.of(tiny_model), "token_vectors": form, "pool": pool, "show_progress": False}
        bucket = None if milvus and kind == pa.float32() and pool == 1 else str(server.storage)
        if milvus and bucket is not None:
            with pytest.raises(TrivecError, match="cannot read the columns of part-0"):
                import_folder(folder, "c", server.uri, **arguments)
        assert import_folder(folder, "c", server.uri, bucket=bucket, **arguments).count == 8
        for row in table.select(["id", "token_vectors"]).to_pylist():
            stored = server.tokens[row["id"]]
            assert stored.type == pa.list_(pa.struct([("vector", pa.list_(kind))]))
            numbers = [np.asarray(each["vector"], kind.to_pandas_dtype()) for each in stored.as_py()]
            vectors = np.array([each.view(np.float16) if kind == pa.uint8() else each for each in numbers], np.float32)
            expected = pooled(np.array(row["token_vectors"], np.float32), pool)
            assert vectors.shape == expected.shape
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            np.testing.assert_allclose(vectors, expected, atol=0.02)
    finally:
        server.close()


def test_a_server_that_is_lost_or_busy_is_asked_again(server, load, tmp_path, encoded):
    server.refuse += ["create", "describe", "describe"]
    server.lose += ["describe"]
    server.full = 2
    assert load(write(tmp_path / "files", encoded)).count == 40
    assert set(server.imported.values()) == {1}


def test_a_job_whose_making_was_not_answered_is_found_again(server, load, tmp_path, encoded):
    server.lose += ["create", "create"]
    assert load(write(tmp_path / "files", encoded)).count == 40
    assert set(server.imported.values()) == {1}
    assert "list" in [action for action, _ in server.requests]


def test_a_server_that_stays_away_is_said(server, load, tmp_path, encoded):
    server.refuse += ["describe"] * 1000
    with pytest.raises(
        MilvusError, match=r"import, describe: the Milvus server has not answered for \d s \(HTTP 503\)"
    ):
        load(write(tmp_path / "files", encoded), timeout=1.0)
    server.refuse.clear()
    assert load(tmp_path / "files").count == 40
    assert set(server.imported.values()) == {1}


def test_a_failed_job_is_named_with_the_servers_reason_and_done_again(server, load, tmp_path, encoded):
    server.failing = "disk quota exceeded: importing data failed"
    with pytest.raises(
        MilvusError, match=r"import job \d+ of part-0.parquet failed: disk quota exceeded.*What was imported"
    ):
        load(write(tmp_path / "files", encoded))
    assert not server.imported
    server.failing = ""
    assert load(tmp_path / "files").count == 40
    assert set(server.imported.values()) == {1}


def test_jobs_that_the_server_has_forgotten_are_told_by_their_rows(server, load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    assert load(folder).count == 40
    (note,) = folder.glob(".imported-*.json")
    noted = json.loads(note.read_text())
    # As of a run that was killed while two jobs ran, of which one had been completed, and a third was being made.
    done = noted["done"]
    for number, name in {"17": "part-0.parquet", "?a": "part-1.parquet"}.items():
        noted["jobs"][number] = [name]
        del done[name]
    note.write_text(json.dumps(noted))
    server.forget()
    assert load(folder).count == 40
    assert set(server.imported.values()) == {1}


def test_a_forgotten_job_without_rows_is_a_failed_one(server, load, tmp_path, encoded):
    server.held = True
    server.refuse += ["describe"] * 1000
    folder = write(tmp_path / "files", encoded)
    with pytest.raises(MilvusError):
        load(folder, timeout=1.0)
    server.refuse.clear()
    server.forget()
    server.held = False
    with pytest.raises(MilvusError, match="the server has forgotten it"):
        load(tmp_path / "files")
    assert load(tmp_path / "files").count == 40
    assert set(server.imported.values()) == {1}


def test_rows_that_are_there_are_not_stored_twice(server, load, tmp_path, encoded, tiny_model):
    with M3Collection("c", tiny_model, server.uri) as collection:
        collection.add([{"id": "d12", "text": "mine"}], show_progress=False)
    with pytest.raises(MilvusError, match=r"holds rows of part-1.parquet already"):
        load(write(tmp_path / "files", encoded))


def test_ids_that_come_twice_are_named(load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    pq.write_table(layout.to_milvus(encoded.slice(33, 1)), folder / "part-9.parquet")
    with pytest.raises(TrivecError, match="holds the id 'd33' more than once"):
        load(folder)


def test_a_file_that_changed_after_it_was_imported(load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    load(folder)
    pq.write_table(layout.to_milvus(encoded.slice(0, 5)), folder / "part-0.parquet")
    with pytest.raises(MilvusError, match=r"part-0.parquet was imported before and has changed since"):
        load(folder)


def test_one_process_imports_a_folder_at_a_time(server, load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    load(folder)
    (lock,) = folder.glob(".imported-*.lock")
    code = (
        f"import fcntl; file = open({str(lock)!r}, 'r+'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(TrivecError, match="is being imported into this collection by another process"):
            load(folder)
        other.kill()
    assert load(folder).found == 4


def test_a_collection_that_was_dropped_gets_everything_again(server, load, tmp_path, encoded):
    folder = write(tmp_path / "files", encoded)
    load(folder)
    with M3Collection("c", uri=server.uri) as collection:
        collection.client.drop_collection("c")
    assert load(folder).files == 4


def test_vectors_of_another_model_are_refused(server, load, tmp_path, encoded, tiny_model):
    folder = write(tmp_path / "files", encoded)
    load(folder)
    other = ModelRecord("other", "f" * 64, "fp32")
    with pytest.raises(CollectionMismatchError, match="its vectors are those of the model"):
        load(folder, model=other)
    with pytest.raises(TrivecError, match="does not say which model its vectors are of"):
        load(folder, model=None)


def test_a_uri_without_an_import_api(tmp_path, encoded, tiny_model):
    folder = write(tmp_path / "files", encoded)
    with pytest.raises(MilvusError, match=r"'tcp://127.0.0.1:1' has no import API: give http://host:19530"):
        import_folder(folder, "c", "tcp://127.0.0.1:1", model=ModelRecord.of(tiny_model))


@pytest.mark.parametrize("held", [True, False])
def test_a_killed_run_goes_on_and_imports_nothing_twice(server, tmp_path, encoded, tiny_checkpoint, held):
    folder = write(tmp_path / "files", encoded, files=8)
    arguments = ["import", str(folder), "-c", "c", "--uri", server.uri, "-m", str(tiny_checkpoint)]
    code = (
        "import sys, trivec.milvus.server_import as s; s._FILES_PER_JOB = 1; s._JOBS_AT_ONCE = 2\n"
        f"from trivec.cli import main; sys.argv[1:] = {arguments!r}; main()"
    )
    for wanted in (1, 2) if held else (2, 5):
        server.held = held
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and len(server.jobs) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        server.held = False
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "collection c now holds 40" in done.stderr
    assert server.imported == {str(folder / f"part-{i}.parquet"): 1 for i in range(8)}
