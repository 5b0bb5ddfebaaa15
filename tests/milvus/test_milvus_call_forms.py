"""Every way in which users' code hands `BGEM3EmbeddingFunction`'s vectors to pymilvus works on Milvus Lite."""

import numpy as np
import pytest
from pymilvus import (
    AnnSearchRequest,
    Collection,
    CollectionSchema,
    DataType,
    FieldSchema,
    MilvusClient,
    RRFRanker,
    WeightedRanker,
    connections,
)
from scipy.sparse import vstack

from sample_texts import SENTENCES
from trivec import BGEM3EmbeddingFunction
from trivec.vectors.sparse import SparseMatrix

# The column-based forms are those of pymilvus' older interface, which announces its end; tutorials still teach it.
pytestmark = pytest.mark.filterwarnings("ignore:.*ORM-style:Warning")

TEXTS = [text for language in SENTENCES.values() for text in language]
IDS = [f"t{i}" for i in range(len(TEXTS))]

# What code passes as the vectors of one query, and of several.
ONE_SPARSE = {
    "sparse[i]": lambda sparse: [sparse[0]],
    "sparse[[i]]": lambda sparse: sparse[[0]],
    "sparse[i:i+1]": lambda sparse: sparse[0:1],
    "_getrow": lambda sparse: [sparse._getrow(0)],
    "getrow": lambda sparse: [sparse.getrow(0)],
    "sparse[i, :]": lambda sparse: [sparse[0, :]],
    "sparse[i, columns]": lambda sparse: [sparse[0, np.arange(sparse.shape[1])]],
    "stacked": lambda sparse: [SparseMatrix(vstack([sparse, sparse]))[0]],
    "list": lambda sparse: list(sparse)[:1],
    "dict": lambda sparse: [dict(zip(sparse[0].indices.tolist(), sparse[0].data.tolist(), strict=True))],
}
ALL_SPARSE = {
    "matrix": lambda sparse: sparse,
    "list": list,
    "rows": lambda sparse: [sparse[i] for i in range(len(sparse))],
    "slice": lambda sparse: sparse[0 : len(sparse)],
    "columns": lambda sparse: sparse[:, list(range(sparse.shape[1]))],
    "stacked": lambda sparse: list(SparseMatrix(vstack([sparse[0], sparse[1]]))),
}


@pytest.fixture(scope="module")
def function(tiny_checkpoint):
    return BGEM3EmbeddingFunction(model_name=str(tiny_checkpoint), device="cpu", use_fp16=False)


@pytest.fixture(scope="module")
def documents(function):
    return function.encode_documents(TEXTS)


@pytest.fixture(scope="module")
def queries(function):
    return function.encode_queries([TEXTS[4], TEXTS[9]])


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return str(tmp_path_factory.mktemp("lite") / "forms.db")


@pytest.fixture(scope="module")
def client(uri):
    opened = MilvusClient(uri)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def orm(uri):
    connections.connect("forms", uri=uri)
    yield "forms"
    connections.disconnect("forms")


def make_collection(client, function, name):
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=100),
        FieldSchema("text", DataType.VARCHAR, max_length=2000),
        FieldSchema("sparse", DataType.SPARSE_FLOAT_VECTOR),
        FieldSchema("dense", DataType.FLOAT_VECTOR, dim=function.dim["dense"]),
    ]
    indexes = client.prepare_index_params()
    indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    indexes.add_index("dense", index_type="AUTOINDEX", metric_type="IP")
    client.create_collection(name, schema=CollectionSchema(fields))
    client.create_index(name, indexes, sync=False)
    client.load_collection(name)
    return name


@pytest.fixture
def name(client, function):
    """The name of an empty, indexed and loaded collection."""
    yield make_collection(client, function, "written")
    client.drop_collection("written")


@pytest.fixture(scope="module")
def filled(client, function, documents):
    """The name of a collection that holds all the documents."""
    name = make_collection(client, function, "filled")
    client.insert(name, row_dicts(documents))
    client.flush(name)
    return name


def row_dicts(documents):
    return [
        {"id": IDS[i], "text": TEXTS[i], "sparse": documents["sparse"][i], "dense": documents["dense"][i]}
        for i in range(len(TEXTS))
    ]


def stored_weights(client, name):
    rows = client.query(name, filter='id != ""', output_fields=["sparse"], limit=1000)
    return {row["id"]: row["sparse"] for row in rows}


def assert_all_there(client, name, documents):
    stored = stored_weights(client, name)
    assert set(stored) == set(IDS)
    for i, identifier in enumerate(IDS):
        row = documents["sparse"][i]
        assert stored[identifier] == pytest.approx(dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)))


@pytest.mark.parametrize(
    "sparse_row",
    [
        lambda sparse, i: sparse[i],
        lambda sparse, i: sparse[[i]],
        lambda sparse, i: sparse[i : i + 1],
        lambda sparse, i: list(sparse)[i],
        lambda sparse, i: sparse._getrow(i),
        lambda sparse, i: sparse.getrow(i),
        lambda sparse, i: sparse[i, :],
        lambda sparse, i: {int(k): float(v) for k, v in zip(sparse[i].indices, sparse[i].data, strict=True)},
    ],
    ids=["[i]", "[[i]]", "[i:i+1]", "list", "_getrow", "getrow", "[i, :]", "dict"],
)
@pytest.mark.parametrize("write", ["insert", "upsert"])
def test_rows_as_dicts(client, name, documents, sparse_row, write):
    rows = [row | {"sparse": sparse_row(documents["sparse"], i)} for i, row in enumerate(row_dicts(documents))]
    getattr(client, write)(name, rows)
    assert_all_there(client, name, documents)


@pytest.mark.parametrize("write", ["insert", "upsert"])
def test_orm_columns_in_slices(client, orm, name, documents, write):
    """The loop of the Milvus hybrid-search tutorial: fifty rows at a time, matrix and list sliced alike."""
    collection = Collection(name, using=orm)
    for begin in range(0, len(TEXTS), 7):
        batch = slice(begin, begin + 7)
        columns = [IDS[batch], TEXTS[batch], documents["sparse"][batch], documents["dense"][batch]]
        getattr(collection, write)(columns)
    assert_all_there(client, name, documents)


@pytest.mark.parametrize("sparse_column", [list, lambda sparse: sparse], ids=["list", "matrix"])
def test_orm_whole_columns(client, orm, name, documents, sparse_column):
    Collection(name, using=orm).insert([IDS, TEXTS, sparse_column(documents["sparse"]), documents["dense"]])
    assert_all_there(client, name, documents)


def test_orm_rows_as_dicts(client, orm, name, documents):
    collection = Collection(name, using=orm)
    collection.insert(row_dicts(documents))
    collection.upsert(row_dicts(documents)[:3])
    assert_all_there(client, name, documents)


def test_upsert_replaces_the_weights(client, name, documents):
    client.insert(name, row_dicts(documents))
    client.upsert(name, [{**row_dicts(documents)[0], "sparse": documents["sparse"][5]}])
    stored = stored_weights(client, name)
    assert len(stored) == len(IDS)
    assert stored[IDS[0]] == stored[IDS[5]]


@pytest.mark.parametrize("form", ONE_SPARSE)
def test_client_search_with_one_sparse_query(client, filled, queries, form):
    (hits,) = client.search(filled, data=ONE_SPARSE[form](queries["sparse"]), anns_field="sparse", limit=3)
    assert hits[0]["id"] == IDS[4]


@pytest.mark.parametrize("form", ALL_SPARSE)
def test_client_search_with_several_sparse_queries(client, filled, queries, form):
    found = client.search(filled, data=ALL_SPARSE[form](queries["sparse"]), anns_field="sparse", limit=3)
    assert [hits[0]["id"] for hits in found] == [IDS[4], IDS[9]]


@pytest.mark.parametrize("form", [lambda dense: dense, lambda dense: [dense[0], dense[1]]], ids=["list", "rows"])
def test_client_search_with_dense_queries(client, filled, queries, form):
    found = client.search(filled, data=form(queries["dense"]), anns_field="dense", limit=3)
    assert [hits[0]["id"] for hits in found] == [IDS[4], IDS[9]]


@pytest.mark.parametrize("form", {**ONE_SPARSE, **ALL_SPARSE})
def test_orm_search_with_sparse_queries(orm, filled, queries, form):
    data = {**ONE_SPARSE, **ALL_SPARSE}[form](queries["sparse"])
    found = Collection(filled, using=orm).search(data, "sparse", {"metric_type": "IP", "params": {}}, limit=2)
    assert found[0][0].id == IDS[4]


@pytest.mark.parametrize("form", ONE_SPARSE)
@pytest.mark.parametrize("ranker", [RRFRanker(), WeightedRanker(0.5, 0.5)], ids=["rrf", "weighted"])
def test_hybrid_search_with_one_query(client, orm, filled, queries, form, ranker):
    sparse = AnnSearchRequest(ONE_SPARSE[form](queries["sparse"]), "sparse", {"metric_type": "IP"}, limit=5)
    dense = AnnSearchRequest([queries["dense"][0]], "dense", {"metric_type": "IP"}, limit=5)
    assert client.hybrid_search(filled, [sparse, dense], ranker, limit=2)[0][0]["id"] == IDS[4]
    assert Collection(filled, using=orm).hybrid_search([sparse, dense], ranker, limit=2)[0][0].id == IDS[4]


@pytest.mark.parametrize("form", ALL_SPARSE)
def test_hybrid_search_with_several_queries(client, filled, queries, form):
    sparse = AnnSearchRequest(ALL_SPARSE[form](queries["sparse"]), "sparse", {"metric_type": "IP"}, limit=5)
    dense = AnnSearchRequest(queries["dense"], "dense", {"metric_type": "IP"}, limit=5)
    found = client.hybrid_search(filled, [sparse, dense], RRFRanker(), limit=2)
    assert [hits[0]["id"] for hits in found] == [IDS[4], IDS[9]]
