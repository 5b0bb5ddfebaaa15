"""Reaching Milvus: files, servers with tokens and databases, and collections that do not fit."""

import base64
import logging
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import suppress
from pathlib import Path

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


class _Requests(grpc.ServerInterceptor):
    """Keeps the requests of a method, which must be answered by one message each."""

    def __init__(self):
        self.searches = []

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        if not handler_call_details.method.endswith("/Search"):
            return handler

        def answer(request, context):
            self.searches.append(request)
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def start_server(database, port=0, interceptors=()):
    """Milvus Lite's engine behind real gRPC on a port of this machine."""
    # Without the option, a server that starts again could take over the port while the old one still has it.
    grpc_server = grpc.server(
        futures.ThreadPoolExecutor(4), interceptors=interceptors, options=[("grpc.so_reuseport", 0)]
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), grpc_server)
    port = grpc_server.add_insecure_port(f"127.0.0.1:{port}")
    grpc_server.start()
    return grpc_server, port


@pytest.fixture
def database(tmp_path):
    opened = MilvusLite(str(tmp_path / "server"))
    yield opened
    opened.close()


@pytest.fixture
def server(database):
    """The URI of a server that asks for TOKEN."""
    grpc_server, port = start_server(database, interceptors=[_TokenCheck()])
    yield f"http://127.0.0.1:{port}"
    grpc_server.stop(grace=0).wait()


class Relay:
    """A TCP relay that can be told to pass nothing on any more, as a network that drops packets does."""

    def __init__(self, port):
        self._to = ("127.0.0.1", port)
        self._open = threading.Event()
        self._open.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        self._open.clear()

    def let_go(self):
        self._open.set()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                self._open.wait()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self):
        self._open.set()
        self._listening.close()


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
    "uri",
    [
        "milvus",
        "localhost:19530",
        "ftp://host/x.db",
        "root:Secret@host:19530",
        "ftp://root:Se@c/ret@host",
        "http://root:Se/cret@host:port",
    ],
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


def loopback_ports():
    """The ports of the loopback interface on which this process listens."""
    inodes = {Path(link).readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_milvus_lite_listens_where_other_users_do_not_reach_it(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime := tmp_path / "r"))
    runtime.mkdir()
    before = loopback_ports()
    with M3Collection("texts", tiny_model, uri=str(tmp_path / "mine.db")) as collection:
        collection.add(["a boat"])
        assert loopback_ports() == before
        (folder,) = runtime.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        client = MilvusClient(str(tmp_path / "mine.db"))  # a user's own one, later in the same process
        assert client.list_collections() == ["texts"]
        client.close()
        assert collection.count() == 1
    assert list(runtime.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_killed_process_left_is_removed_and_a_live_one_kept(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime := tmp_path / "r"))
    runtime.mkdir()
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as dead:
        for name, listening in (("live", live), ("dead", dead)):
            (runtime / f"trivec-lite-{name}").mkdir()
            listening.bind(str(runtime / f"trivec-lite-{name}" / "s"))
            listening.listen()
        dead.close()
        with M3Collection("texts", tiny_model, uri=str(tmp_path / "mine.db")) as collection:
            collection.add(["a boat"])
        assert [each.name for each in runtime.iterdir()] == ["trivec-lite-live"]


def test_where_no_socket_is_to_be_had_a_port_does(tiny_model, tmp_path, monkeypatch):
    (long := tmp_path / ("x" * 120)).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with M3Collection("texts", tiny_model, uri=str(tmp_path / "mine.db")) as collection:
        collection.add(["a boat"])
        assert collection.search("a boat", limit=1)[0].text == "a boat"
    assert list(long.iterdir()) == []


def test_a_fork_says_that_it_cannot_use_the_connection_of_its_parent(tiny_model, tmp_path):
    code = (
        "import os, sys\n"
        "from trivec import M3Model\n"
        "from trivec.milvus import M3Collection, MilvusError\n"
        f"with M3Model.load({str(tiny_model.name)!r}) as model, M3Collection('t', model, uri='f.db') as collection:\n"
        "    collection.add(['a boat'], show_progress=False)\n"
        "    if os.fork() == 0:\n"
        "        try:\n"
        "            collection.count()\n"
        "        except MilvusError as error:\n"
        "            print('child:', error, flush=True)\n"
        "        collection.close()\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    print('parent:', collection.count())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert "child: collection 't' in f.db: cannot count: it was opened before this process was forked" in done.stdout
    assert "parent: 1" in done.stdout


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


def test_a_password_with_a_slash(tiny_model, database):
    token = "root:se/cr@et"
    seen = []

    class Tokens(grpc.ServerInterceptor):
        def intercept_service(self, continuation, handler_call_details):
            seen.append(dict(handler_call_details.invocation_metadata).get("authorization", ""))
            return continuation(handler_call_details)

    grpc_server, port = start_server(database, interceptors=[Tokens()])
    with M3Collection("texts", tiny_model, uri=f"http://{token}@127.0.0.1:{port}") as collection:
        assert collection.count() == 0
        assert collection.place == f"http://127.0.0.1:{port}"
    assert {base64.b64decode(each).decode() for each in seen} == {token}
    grpc_server.stop(grace=0).wait()
    with pytest.raises(MilvusError) as caught:
        M3Collection("texts", tiny_model, uri=f"http://{token}@127.0.0.1:{port}", timeout=2)
    assert not any(part in str(caught.value) for part in ("se/", "cr@", "et@", "root"))


def test_candidates_stay_within_what_milvus_gives(tiny_model, database):
    requests = _Requests()
    grpc_server, port = start_server(database, interceptors=[requests])
    with M3Collection("texts", tiny_model, uri=f"http://127.0.0.1:{port}") as collection:
        collection.add(["a boat", "a bridge"])
        for arguments in ({"limit": 6000}, {"limit": 10, "candidates": 20_000}, {"limit": 9000, "offset": 7000}):
            assert len(collection.search("a boat", **arguments)) == (0 if "offset" in arguments else 2)
    asked = [int(pair.value) for request in requests.searches for pair in request.search_params if pair.key == "topk"]
    assert asked == [16_384] * 6
    grpc_server.stop(grace=0).wait()


def test_a_server_that_is_lost_in_use_is_one_line_and_the_handle_works_once_it_is_back(
    tiny_model, database, caplog, capfd
):
    grpc_server, port = start_server(database)
    with (
        caplog.at_level(logging.DEBUG),
        M3Collection("texts", tiny_model, uri=f"http://127.0.0.1:{port}", timeout=1.5) as collection,
    ):
        collection.add(["a boat", "a bridge"])
        grpc_server.stop(grace=0).wait()
        for lost in (
            lambda: collection.search("a boat"),
            lambda: collection.add(["a tree"], show_progress=False),
            lambda: collection.delete("x"),
            collection.count,
        ):
            with pytest.raises(MilvusError, match=r"has not answered for .* s: check that it runs") as caught:
                lost()
            assert "\n" not in str(caught.value)
        grpc_server, _ = start_server(database, port)
        assert [hit.text for hit in collection.search("a boat", limit=1)] == ["a boat"]
        collection.add(["a tree"])
        assert collection.count() == 3
    grpc_server.stop(grace=0).wait()
    assert not [record for record in caplog.records if record.exc_info and record.name.startswith("pymilvus")]
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_comes_back_in_time_is_not_noticed(tiny_model, database):
    grpc_server, port = start_server(database)
    with M3Collection("texts", tiny_model, uri=f"http://127.0.0.1:{port}", timeout=60) as collection:
        collection.add(["a boat", "a bridge"])
        grpc_server.stop(grace=0).wait()
        found = futures.ThreadPoolExecutor(1).submit(collection.search, "a boat", limit=1)
        time.sleep(0.5)
        assert not found.done()
        grpc_server, _ = start_server(database, port)
        assert found.result(60)[0].text == "a boat"
    grpc_server.stop(grace=0).wait()


def test_a_server_that_answers_no_more_is_given_up_after_the_timeout(tiny_model, database):
    grpc_server, port = start_server(database)
    relay = Relay(port)
    with M3Collection("texts", tiny_model, uri=f"http://127.0.0.1:{relay.port}", timeout=1.5) as collection:
        collection.add(["a boat", "a bridge"])
        relay.hold()
        with pytest.raises(MilvusError, match="has not answered for"):
            collection.search("a boat")
        with pytest.raises(MilvusError, match="no Milvus server answers at"):
            M3Collection("texts", tiny_model, uri=f"http://127.0.0.1:{relay.port}", timeout=1)
        relay.let_go()
        assert collection.search("a boat", limit=1)[0].text == "a boat"
    relay.close()
    grpc_server.stop(grace=0).wait()
