"""Reaching Milvus: files, servers with tokens and databases, and collections that do not fit."""

import base64
import subprocess
import sys
import threading
from concurrent import futures

import grpc
import pytest
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2_grpc

from trivec.documents import DocumentError
from trivec.milvus import CollectionMismatchError, M3Collection, MilvusError, schema

TOKEN = "root:secret"
READER = "reader:secret"


class _TokenCheck(grpc.ServerInterceptor):
    """Answers as a Milvus server does to a request without the right token."""

    def intercept_service(self, continuation, handler_call_details):
        sent = dict(handler_call_details.invocation_metadata).get("authorization", "")
        token = base64.b64decode(sent).decode()
        writes = handler_call_details.method.endswith("/Upsert")
        if token == TOKEN or (token == READER and not writes):
            return continuation(handler_call_details)

        def refuse(_request, context):
            if token == READER:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "PrivilegeUpsert: permission deny")
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failed, please check api key is correct")

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def server(tmp_path):
    """The URI of a server on a port of this machine that asks for TOKEN: Milvus Lite's engine behind real gRPC."""
    database = MilvusLite(str(tmp_path / "server"))
    grpc_server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[_TokenCheck()])
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    yield f"http://127.0.0.1:{port}"
    grpc_server.stop(grace=0).wait()
    database.close()


def test_a_server_with_token_and_database(tiny_model, server):
    MilvusClient(server, token=TOKEN).create_database("books")
    with M3Collection("texts", tiny_model, uri=server, token=TOKEN, db_name="books") as collection:
        collection.add(["Alan Turing was born in London.", "</s>", "A boat crossed the lake."])
        assert collection.search("A boat crossed the lake.", limit=1)[0].text == "A boat crossed the lake."
        assert collection.search("</s>", "sparse") == []
    with M3Collection("texts", tiny_model, uri=server, token=TOKEN) as elsewhere:
        assert elsewhere.count() == 0
    with M3Collection("texts", tiny_model, uri=server, token=TOKEN, db_name="books") as again:
        assert again.count() == 3


def test_a_wrong_token_is_said_without_repeating_it(tiny_model, server):
    for uri, token in [(server, "root:guess"), (server, ""), (server.replace("//", "//root:guess@"), "")]:
        with pytest.raises(MilvusError, match=f"{server} rejected the token") as caught:
            M3Collection("texts", tiny_model, uri=uri, token=token)
        assert "guess" not in str(caught.value)


def test_a_token_without_the_right_to_write(tiny_model, server):
    with (
        M3Collection("texts", tiny_model, uri=server, token=READER) as collection,
        pytest.raises(MilvusError, match="cannot add documents: PrivilegeUpsert: permission deny"),
    ):
        collection.add(["a"])


def test_without_pymilvus_the_extra_is_named():
    code = "import sys; sys.modules['pymilvus'] = None; import trivec.milvus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'MissingExtraError: pymilvus is not installed: run `pip install "trivec[milvus]"`' in done.stderr


def test_a_missing_database_is_named(tiny_model, server):
    with pytest.raises(MilvusError, match="'nowhere'"):
        M3Collection("texts", tiny_model, uri=server, token=TOKEN, db_name="nowhere")


def test_a_server_out_of_reach(tiny_model, capfd):
    with pytest.raises(MilvusError, match=r"no Milvus server answers at http://127\.0\.0\.1:1: start it") as caught:
        M3Collection("texts", tiny_model, uri="http://127.0.0.1:1")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "uri", ["milvus", "localhost:19530", "ftp://host/x.db", "root:Secret@host:19530", "ftp://root:Se@c/ret@host"]
)
def test_what_is_no_uri(tiny_model, uri):
    with pytest.raises(MilvusError, match="is no Milvus URI") as raised:
        M3Collection("texts", tiny_model, uri=uri)
    assert not any(part in str(raised.value) for part in ("Se", "ret", "root"))


def test_a_file_open_in_another_process(tiny_model, tmp_path, capfd):
    uri = str(tmp_path / "busy.db")
    holder = subprocess.Popen(
        [sys.executable, "-c", f"from pymilvus import MilvusClient as C; C({uri!r}); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        with pytest.raises(MilvusError, match=r"busy\.db is open in another process"):
            M3Collection("texts", tiny_model, uri=uri)
        holder.communicate(b"\n")
    assert capfd.readouterr().err == ""
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        assert collection.add(["a"]).written == 1


def test_files_that_cannot_be_opened(tiny_model, tmp_path):
    with pytest.raises(MilvusError, match=r"the folder .*nowhere does not exist"):
        M3Collection("texts", tiny_model, uri=str(tmp_path / "nowhere" / "x.db")).add(["a"])
    (tmp_path / "old.db").write_bytes(b"SQLite format 3\0")
    with pytest.raises(MilvusError, match=r"old\.db is a single file"):
        M3Collection("texts", tiny_model, uri=str(tmp_path / "old.db"))


def test_a_client_that_was_there_before_keeps_working(tiny_model, tmp_path):
    uri = str(tmp_path / "shared.db")
    client = MilvusClient(uri)
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(["a"])
    assert client.list_collections() == ["texts"]
    client.close()


def make_collection(uri, name="texts", *, dim=32, metric="IP", without=(), extra=None, dynamic=True, id_type=None):
    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=dynamic)
    if id_type is None:
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=100)
    else:
        schema.add_field("id", id_type, is_primary=True)
    fields = {
        "text": {"datatype": DataType.VARCHAR, "max_length": 500},
        "dense": {"datatype": DataType.FLOAT_VECTOR, "dim": dim},
        "sparse": {"datatype": DataType.SPARSE_FLOAT_VECTOR},
    } | (extra or {})
    indexes = client.prepare_index_params()
    for field, arguments in fields.items():
        if field not in without:
            schema.add_field(field, **arguments)
            if field in ("dense", "sparse"):
                kind = "AUTOINDEX" if field == "dense" else "SPARSE_INVERTED_INDEX"
                indexes.add_index(field, index_type=kind, metric_type=metric if field == "dense" else "IP")
    client.create_collection(name, schema=schema)
    client.create_index(name, indexes, sync=False)
    client.close()


@pytest.mark.parametrize(
    ("differing", "message"),
    [
        ({"dim": 64}, "its dense vectors have 64 dimensions, the model's have 32"),
        ({"metric": "L2"}, "its field 'dense' uses the metric L2, not IP"),
        ({"without": ("sparse",)}, r"it has no field 'sparse' \(SPARSE_FLOAT_VECTOR\)"),
        ({"without": ("text",), "dim": 8}, "it has no field 'text'.*; its dense vectors have 8"),
        ({"id_type": DataType.INT64}, "its field 'id' is INT64, not VARCHAR"),
        ({"dynamic": False}, "no dynamic field"),
        ({"extra": {"year": {"datatype": DataType.INT64}}}, r"requires a further field 'year' \(INT64\)"),
    ],
)
def test_an_existing_collection_that_differs_is_refused_with_the_difference(tiny_model, tmp_path, differing, message):
    uri = str(tmp_path / "other.db")
    make_collection(uri, **differing)
    with pytest.raises(CollectionMismatchError, match=message):
        M3Collection("texts", tiny_model, uri=uri)


def test_an_existing_collection_that_fits_is_used_with_its_own_limits(tiny_model, tmp_path):
    uri = str(tmp_path / "own.db")
    make_collection(uri, extra={"year": {"datatype": DataType.INT64, "nullable": True}})
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add([{"id": "a", "text": "a boat", "metadata": {"year": 1912}}, {"id": "b", "text": "a bridge"}])
        assert [hit.id for hit in collection.search("a boat", filter="year == 1912")] == ["a"]
        with pytest.raises(DocumentError, match="501 bytes of UTF-8, but the collection holds 500"):
            collection.add([{"id": "c", "text": "x" * 501}])


def test_a_collection_whose_creation_was_interrupted_is_completed(tiny_model, tmp_path):
    uri = str(tmp_path / "half.db")
    client = MilvusClient(uri)
    schema.create(client, "texts", dense_dim=32)  # and then the power went
    client.close()
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(["a boat", "a bridge"])
        assert collection.search("a boat", limit=1)[0].text == "a boat"


def test_searching_from_several_threads(tiny_model, tmp_path):
    with M3Collection("texts", tiny_model, uri=str(tmp_path / "threads.db")) as collection:
        collection.add([f"text number {i}" for i in range(50)])
        expected = [hit.id for hit in collection.search("number 7", limit=5)]
        found = []

        def search():
            for _ in range(5):
                found.append([hit.id for hit in collection.search("number 7", limit=5)])

        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 20
