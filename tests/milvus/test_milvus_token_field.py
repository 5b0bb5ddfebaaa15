"""Token vectors on a Milvus server, which cannot run here: what pymilvus itself makes of the requests, as protobufs."""

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient
from pymilvus.client.abstract import CollectionSchema as Described
from pymilvus.client.entity_helper import extract_struct_array_from_column_data
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from trivec.milvus import MilvusError, schema, token_field
from trivec.milvus.token_field import TokenField

DIM = 8


def unit_vectors(tokens, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((tokens, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Recording:
    """As much of a client as `schema.create` and `schema.load` call, answering as a new collection on a server does."""

    create_schema = staticmethod(MilvusClient.create_schema)
    create_struct_field_schema = staticmethod(MilvusClient.create_struct_field_schema)
    prepare_index_params = staticmethod(MilvusClient.prepare_index_params)

    def create_collection(self, name, schema, properties, **options):
        request = Prepare.create_collection_request(name, schema, properties=properties)
        self.made = schema_pb2.CollectionSchema.FromString(request.schema)
        answer = milvus_pb2.DescribeCollectionResponse(schema=self.made, properties=request.properties)
        self.raw = Described(answer).dict()

    def describe_collection(self, name):
        """What `MilvusClient.describe_collection` makes of the server's answer."""
        from pymilvus.client.utils import convert_struct_fields_to_user_format

        shown = dict(self.raw)
        shown["fields"] = [*shown["fields"], *convert_struct_fields_to_user_format(shown.pop("struct_array_fields"))]
        return shown

    def list_indexes(self, name, field_name):
        return []

    def create_index(self, name, indexes, **options):
        self.indexes = {each.field_name: each.to_dict() for each in indexes}

    def load_collection(self, name, **options):
        pass


def on_server(form, version, pool=1):
    field = TokenField.wanted(form, pool, DIM, version)
    client = Recording()
    schema.create(client, "c", 4, {"trivec.model": "m", **field.properties()}, field)
    return field, client


KINDS = [
    ("fp16", "v2.6.4", DataType.FLOAT_VECTOR, "MAX_SIM_IP"),
    ("fp16", "3.0.1-rc1", DataType.FLOAT16_VECTOR, "MAX_SIM_IP"),
    ("int8", "v3.1.0", DataType.INT8_VECTOR, "MAX_SIM_COSINE"),
]


@pytest.mark.parametrize(("form", "version", "element", "metric"), KINDS)
def test_the_collection_has_an_array_of_structs_with_an_index_by_maxsim(form, version, element, metric):
    field, client = on_server(form, version, pool=2)
    (struct,) = client.made.struct_array_fields
    assert struct.name == "token_vectors"
    (vector,) = struct.fields
    assert (vector.data_type, vector.element_type) == (schema_pb2.ArrayOfVector, int(element))
    assert {pair.key: pair.value for pair in vector.type_params} == {"dim": str(DIM), "max_capacity": "4096"}
    assert [each.name for each in client.made.fields if not each.is_dynamic] == ["id", "text", "dense", "sparse"]
    assert TokenField.read(client.describe_collection("c")) == field
    schema.load(client, "c", lite=False)
    index = client.indexes["token_vectors[vector]"]
    assert (index["index_type"], index["metric_type"]) == ("AUTOINDEX", metric)
    assert client.indexes.keys() == {"dense", "sparse", "token_vectors[vector]"}


@pytest.mark.parametrize(("form", "version", "element", "metric"), KINDS)
def test_a_row_holds_every_vector_of_its_text_and_gives_it_back(form, version, element, metric):
    field, client = on_server(form, version)
    vectors = unit_vectors(5)
    row = {"id": "a", "text": "t", "dense": [0.5] * 4, "sparse": {1: 1.0}, "token_vectors": field.value("t", vectors)}
    request = Prepare.row_upsert_param(
        "c", [row], "", client.raw["fields"], client.raw["struct_array_fields"], enable_dynamic=True
    )
    (column,) = (each for each in request.fields_data if each.field_name == "token_vectors")
    (within,) = column.struct_arrays.fields
    (stored,) = within.vectors.vector_array.data
    assert (within.vectors.vector_array.element_type, stored.dim) == (int(element), DIM)
    back = field.vectors(extract_struct_array_from_column_data(column.struct_arrays, 0), "t")
    np.testing.assert_allclose(back, vectors, atol=1e-3 if form == "fp16" else 1e-2)
    assert token_field.stored_bytes(row["token_vectors"]) == 5 * field.vector_bytes


@pytest.mark.parametrize(("form", "version", "element", "metric"), KINDS)
def test_a_search_asks_by_the_list_of_the_querys_vectors(form, version, element, metric):
    field, client = on_server(form, version)
    query = unit_vectors(3, seed=1)
    request = Prepare.search_requests_with_expr(
        "c",
        token_field.PATH,
        {"metric_type": field.metric},
        5,
        [field.asked(query).to_flat_array()],
        schema=client.raw,
        is_embedding_list=True,
    )
    said = {pair.key: pair.value for pair in request.search_params}
    assert (said["anns_field"], said["metric_type"]) == ("token_vectors[vector]", metric)
    (placeholder,) = common_pb2.PlaceholderGroup.FromString(request.placeholder_group).placeholders
    kinds = {
        DataType.FLOAT_VECTOR: (common_pb2.EmbListFloatVector, np.float32),
        DataType.FLOAT16_VECTOR: (common_pb2.EmbListFloat16Vector, np.float16),
        DataType.INT8_VECTOR: (common_pb2.EmbListInt8Vector, np.int8),
    }
    kind, dtype = kinds[element]
    assert placeholder.type == kind
    (sent,) = placeholder.values
    asked = np.frombuffer(sent, dtype).reshape(3, DIM).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    np.testing.assert_allclose(asked, query, atol=1e-3 if form == "fp16" else 1e-2)


@pytest.mark.parametrize(
    ("form", "version", "said"),
    [
        ("fp16", "v2.6.3", "since 2.6.4, and the server is v2.6.3"),
        ("int8", "2.5.11", "since 2.6.4"),
        ("int8", "v2.6.9", "float32 only"),
    ],
)
def test_a_server_that_cannot_is_told_with_the_reason(form, version, said):
    with pytest.raises(MilvusError, match=said):
        TokenField.wanted(form, 1, DIM, version)


def test_a_version_that_says_no_number_is_left_to_the_server():
    assert TokenField.wanted("fp16", 1, DIM, "Zilliz Cloud").element == DataType.FLOAT16_VECTOR


def test_more_vectors_than_a_server_takes_are_refused():
    field = TokenField.wanted("fp16", 1, DIM, "2.6.4")
    with pytest.raises(MilvusError, match="4,097 token vectors"):
        field.value("t", np.ones((4097, DIM), np.float32))


def test_a_field_that_is_dropped_in_silence_is_found_out(tmp_path):
    """Milvus Lite 3.2.2 makes a collection without its array of structs, and says nothing."""
    client = MilvusClient(str(tmp_path / "lite.db"))
    field = TokenField("fp16", 1, DIM, DataType.FLOAT_VECTOR)
    with pytest.raises(MilvusError, match="without its field for token vectors"):
        schema.create(client, "c", 4, field.properties(), field)
    assert not client.has_collection("c")
    client.close()
