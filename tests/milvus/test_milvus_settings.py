"""Partition keys, consistency, indexes and how hard to look, as arguments of a collection.

No Milvus server runs here: what a server is asked for is read from the requests themselves, which Milvus Lite's engine
behind real gRPC answers; what it does not have (DISKANN, sparse vectors left out) is answered in its place.
"""

import json

import grpc
import pytest
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2
from test_milvus_connection import start_server

from trivec.documents import Document, MetadataError
from trivec.milvus import (
    DISKANN,
    HNSW,
    IVF_SQ8,
    CollectionMismatchError,
    M3Collection,
    MilvusError,
    index_documents,
)

DOCUMENTS = [
    {"id": "de", "text": "ein kleines Boot", "metadata": {"lang": "de", "year": 1901}},
    {"id": "en", "text": "a small boat", "metadata": {"lang": "en", "year": 1902}},
]


class _Requests(grpc.ServerInterceptor):
    """Keeps requests by method; what Milvus Lite refuses is taken out before it sees them, and told as it was asked."""

    def __init__(self):
        self.seen = {}

    def of(self, method):
        return self.seen.get(method, [])

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if method not in ("CreateCollection", "CreateIndex", "Search", "DescribeIndex"):
            return handler

        def answer(request, context):
            kept = type(request)()
            kept.CopyFrom(request)
            self.seen.setdefault(method, []).append(kept)
            if method == "CreateIndex" and request.field_name == "dense":
                _become_flat(request)
            if method == "Search":
                _become_plain(request)
            response = handler.unary_unary(request, context)
            if method == "DescribeIndex":
                self._tell_types(response)
            return response

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _tell_types(self, response):
        made = {request.field_name: _pairs(request.extra_params) for request in self.of("CreateIndex")}
        for described in response.index_descriptions:
            for pair in described.params:
                if pair.key == "index_type" and described.field_name in made:
                    pair.value = made[described.field_name]["index_type"]


def _become_flat(request):
    del request.extra_params[:]
    kept = {"index_type": "FLAT", "metric_type": "IP"}
    request.extra_params.extend(common_pb2.KeyValuePair(key=key, value=value) for key, value in kept.items())


def _become_plain(request):
    for pair in request.search_params:
        if pair.key == "params":
            pair.value = "{}"
        if pair.key == "drop_ratio_search":
            pair.value = "0"


@pytest.fixture
def requests():
    return _Requests()


@pytest.fixture
def uri(tmp_path, requests):
    database = MilvusLite(str(tmp_path / "server"))
    server, port = start_server(database, interceptors=[requests])
    yield f"http://127.0.0.1:{port}"
    server.stop(grace=0).wait()
    database.close()


def _pairs(pairs):
    return {pair.key: pair.value for pair in pairs}


@pytest.mark.parametrize(
    ("index", "asked", "effort"),
    [
        (HNSW(m=32, ef_construction=400), {"index_type": "HNSW", "M": "32", "efConstruction": "400"}, "ef"),
        (IVF_SQ8(nlist=64), {"index_type": "IVF_SQ8", "nlist": "64"}, "nprobe"),
        (DISKANN(), {"index_type": "DISKANN"}, "search_list"),
    ],
)
def test_a_server_is_asked_for_the_index_and_the_effort(uri, requests, tiny_model, index, asked, effort):
    with M3Collection("c", tiny_model, uri, dense_index=index, effort=77) as collection:
        collection.add(DOCUMENTS, show_progress=False)
        collection.search("boat", mode="dense")
    dense, _ = requests.of("CreateIndex")
    sent = _pairs(dense.extra_params)
    flat = {key: str(value) for key, value in json.loads(sent.pop("params", "{}")).items()} | sent
    assert asked.items() <= flat.items()
    searched = _pairs(requests.of("Search")[-1].search_params)
    assert json.loads(searched["params"])[effort] == 77
    with pytest.raises(CollectionMismatchError, match=f"its dense index is {index.index_type}, not "):
        M3Collection("c", tiny_model, uri, dense_index=HNSW() if index.index_type != "HNSW" else DISKANN())


def test_consistency_is_that_of_the_collection_and_of_searches(uri, requests, tiny_model):
    with M3Collection("c", tiny_model, uri, consistency="Bounded") as collection:
        collection.add(DOCUMENTS, show_progress=False)
        collection.search("boat", mode="dense")
    assert requests.of("CreateCollection")[0].consistency_level == common_pb2.Bounded
    assert requests.of("Search")[-1].consistency_level == common_pb2.Bounded
    with M3Collection("c", tiny_model, uri, consistency="Strong") as collection:
        collection.search("boat", mode="dense")
    assert requests.of("Search")[-1].consistency_level == common_pb2.Strong


def test_a_share_of_the_lexical_weights_is_left_out(uri, requests, tiny_model):
    with M3Collection("c", tiny_model, uri, drop_ratio=0.25) as collection:
        collection.add(DOCUMENTS, show_progress=False)
        collection.search("boat", mode="hybrid")
    dense, sparse = (_pairs(request.search_params) for request in requests.of("Search")[-2:])
    assert "drop_ratio_search" not in str(dense)
    assert '"drop_ratio_search":0.25' in sparse["params"].replace(" ", "")


def test_effort_without_an_index_that_knows_it(uri, tiny_model):
    with M3Collection("c", tiny_model, uri, effort=10) as collection:
        collection.add(DOCUMENTS, show_progress=False)
        with pytest.raises(MilvusError, match="effort is 10, but an index of type AUTOINDEX chooses by itself"):
            collection.search("boat", mode="dense")


@pytest.mark.parametrize("arguments", [{"dense_index": HNSW()}, {"effort": 5}, {"drop_ratio": 0.1}])
def test_milvus_lite_has_none_of_them(tmp_path, tiny_model, arguments):
    with pytest.raises(MilvusError, match="is for a Milvus server: Milvus Lite compares with every row"):
        M3Collection("c", tiny_model, tmp_path / "m.db", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"consistency": "strong"}, "consistency is 'strong': it must be 'Strong', 'Bounded', 'Session', 'Eventually'"),
        ({"drop_ratio": 1}, "drop_ratio is 1: it must be a share"),
        ({"effort": 0}, "effort=0 must be"),
        ({"dense_index": HNSW(m=1)}, "m=1 must be"),
        ({"partition_key": "text"}, "partition_key is 'text'"),
    ],
)
def test_arguments_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        M3Collection("c", uri=tmp_path / "m.db", **arguments)


@pytest.fixture(params=["lite", "server"])
def place(request, tmp_path):
    return str(tmp_path / "m.db") if request.param == "lite" else request.getfixturevalue("uri")


def test_a_partition_key_is_a_field_and_still_metadata(place, tiny_model):
    with M3Collection("c", tiny_model, place, partition_key="lang") as collection:
        collection.add(DOCUMENTS, show_progress=False)
        fields = {field["name"]: field for field in collection.client.describe_collection("c")["fields"]}
        assert fields["lang"]["is_partition_key"]
        assert collection.get("de").metadata == {"lang": "de", "year": 1901}
        (hit,) = collection.search("boat", filter='lang == "en"')
        assert (hit.id, hit.metadata) == ("en", {"lang": "en", "year": 1902})
        # What is stored the same is not encoded again, and what changed its partition is there once.
        assert collection.add(DOCUMENTS, skip_unchanged=True, show_progress=False).unchanged == 2
        collection.add([{**DOCUMENTS[0], "metadata": {"lang": "nl", "year": 1}}], show_progress=False)
        assert collection.count() == 2
        assert collection.get("de").metadata == {"lang": "nl", "year": 1}
    with M3Collection("c", tiny_model, place) as collection:  # found out without being told
        assert {hit.metadata["lang"] for hit in collection.search("boat")} == {"en", "nl"}
    with pytest.raises(CollectionMismatchError, match="it is partitioned by 'lang', not by 'year:int'"):
        M3Collection("c", tiny_model, place, partition_key="year:int")


def test_a_partition_key_of_integers_and_chunks(place, tiny_model):
    documents = [Document("a", "word " * 80, {"tenant": 7}), Document("b", "other", {"tenant": 8})]
    with M3Collection("c", tiny_model, place, partition_key="tenant:int") as collection:
        index_documents(collection, documents, max_tokens=32, show_progress=False)
        found = collection.search("word", filter="tenant == 7", limit=20)
        assert len(found) > 2
        assert {(hit.metadata["tenant"], hit.metadata["document"]) for hit in found} == {(7, "a")}


def test_documents_without_the_partition_key_are_named(place, tiny_model):
    wrong = [{"id": "x", "text": "no language"}]
    with (
        M3Collection("c", tiny_model, place, partition_key="lang") as collection,
        pytest.raises(MetadataError, match="document 'x': its metadata 'lang', by which"),
    ):
        collection.add(wrong, show_progress=False)
