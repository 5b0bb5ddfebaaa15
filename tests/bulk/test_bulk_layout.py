"""The Parquet layout of Milvus' bulk import, held against what pymilvus' own writer makes of the same rows."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus import DataType, MilvusClient

from trivec.bulk import layout
from trivec.bulk.partition_key import PartitionKey
from trivec.documents import DocumentError, MetadataError

DIM = 4
ELEMENT = {"fp16": pa.float16(), "int8": pa.int8()}


def encoded(texts=("one", "zwei ßü", 'three "quoted" \\ 三'), *, tokens=None, metadata=None):
    """A table as `trivec encode` writes it, of vectors that have nothing to do with the texts."""
    generator = np.random.default_rng(5)
    n = len(texts)
    weights = [{3: 0.25, 17: float(np.float32(0.1)), 70_000: float(np.float32(1e-5))}, {}, {5: 1.0}]
    sparse = [
        {"indices": list(weights[i % 3]), "values": [float(np.float32(w)) for w in weights[i % 3].values()]}
        for i in range(n)
    ]
    columns = {
        "id": pa.array([f"d{i}" for i in range(n)]),
        "text": pa.array(list(texts)),
        "metadata": pa.array(metadata or [json.dumps({"lang": "de", "year": 1900 + i}) for i in range(n)]),
        "dense": pa.array(generator.normal(size=(n, DIM)).astype(np.float32).tolist(), pa.list_(pa.float32(), DIM)),
        "sparse": pa.array(sparse, pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])),
    }
    if tokens:
        vectors = [generator.integers(-127, 127, size=(i + 1, DIM)).astype(np.float32).tolist() for i in range(n)]
        whole = [[[int(x) for x in vector] for vector in of_text] for of_text in vectors]
        columns["token_vectors"] = pa.array(
            whole if tokens == "int8" else [[list(map(np.float16, v)) for v in of] for of in vectors],
            pa.list_(pa.list_(ELEMENT[tokens], DIM)),
        )
    if tokens == "int8":
        scales = [[0.5 + i] * (i + 1) for i in range(n)]
        columns["token_scales"] = pa.array(scales, pa.list_(pa.float32()))
    columns["truncated"] = pa.array([False] * n)
    return pa.table(columns)


def rows_of(table):
    """What a Milvus server takes the rows of a table in its layout for."""
    rows = []
    for row in table.to_pylist():
        row["sparse"] = {int(index): np.float32(weight) for index, weight in json.loads(row["sparse"]).items()}
        row["$meta"] = json.loads(row["$meta"])
        row["dense"] = np.array(row["dense"], np.float32).tobytes()
        for token in row.get("token_vectors", []):
            token["vector"] = np.array(token["vector"], np.float32).tobytes()
        rows.append(row)
    return rows


@pytest.fixture
def own_writer(tmp_path):
    """Write rows with pymilvus' own writer, and return what it wrote."""
    bulk_writer = pytest.importorskip(
        "pymilvus.bulk_writer", reason="needs pymilvus[bulk_writer]", exc_type=ImportError
    )

    def write(rows, *, tokens=False, partition_key=None, element=DataType.FLOAT_VECTOR):
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=1024)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=DIM)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        if tokens:
            struct = MilvusClient.create_struct_field_schema()
            struct.add_field("vector", element, dim=DIM)
            schema.add_field(
                "token_vectors",
                DataType.ARRAY,
                element_type=DataType.STRUCT,
                struct_schema=struct,
                max_capacity=100,
            )
        if partition_key:
            schema.add_field(partition_key, DataType.VARCHAR, max_length=1024, is_partition_key=True)
        writer = bulk_writer.LocalBulkWriter(schema, str(tmp_path / "own"), file_type=bulk_writer.BulkFileType.PARQUET)
        for row in rows:
            writer.append_row(row)
        writer.commit()
        ((path,),) = writer.batch_files
        return pq.read_table(path)

    return write


def as_rows(table, placeholder=0):
    """The rows of an encoded table as a program hands them to pymilvus' writer."""
    for encoded_row in table.to_pylist():
        metadata = json.loads(encoded_row.pop("metadata"))
        row = {**encoded_row, **metadata}
        pairs = dict(zip(row["sparse"]["indices"], row["sparse"]["values"], strict=True))
        row["sparse"] = pairs or {placeholder: 1.0}
        del row["truncated"]
        if "token_vectors" in row:
            scales = row.pop("token_scales", None) or [1.0] * len(row["token_vectors"])
            row["token_vectors"] = [
                {"vector": [float(np.float32(x) * np.float32(scale)) for x in vector]}
                for vector, scale in zip(row["token_vectors"], scales, strict=True)
            ]
        yield row


@pytest.mark.parametrize("tokens", [None, "fp16", "int8"])
def test_the_layout_is_that_of_pymilvus_own_writer(own_writer, tmp_path, tokens):
    table = encoded(tokens=tokens)
    written = layout.to_milvus(table)
    pq.write_table(written, tmp_path / "ours.parquet")
    ours, theirs = pq.read_table(tmp_path / "ours.parquet"), own_writer(as_rows(table), tokens=bool(tokens))
    assert sorted(ours.schema.names) == sorted(theirs.schema.names)
    for name in ours.schema.names:
        assert ours.schema.field(name).type == theirs.schema.field(name).type, name
    assert rows_of(ours) == rows_of(theirs.select(ours.schema.names))


@pytest.mark.parametrize(
    ("numbers", "element"), [(np.float16, DataType.FLOAT16_VECTOR), (np.int8, DataType.INT8_VECTOR)]
)
def test_token_vectors_of_other_numbers_are_as_in_pymilvus_own_writer(own_writer, numbers, element):
    table = encoded(tokens="fp16")  # of whole numbers, which int8 holds too

    def halved(text, vectors):
        assert text in table.column("text").to_pylist()
        return vectors[: (len(vectors) + 1) // 2].astype(numbers)

    ours = layout.to_milvus(table, tokens=halved, numbers=numbers)
    assert ours.schema == layout.milvus_schema(token_vectors=True, numbers=numbers)
    rows = list(as_rows(table))
    for row in rows:
        vectors = row["token_vectors"][: (len(row["token_vectors"]) + 1) // 2]
        row["token_vectors"] = [{"vector": np.array(each["vector"], numbers)} for each in vectors]
    theirs = own_writer(rows, tokens=True, element=element)
    assert ours.schema.field("token_vectors").type == theirs.schema.field("token_vectors").type
    assert ours.column("token_vectors").to_pylist() == theirs.column("token_vectors").to_pylist()


def test_a_partition_key_is_a_column_as_in_pymilvus_own_writer(own_writer):
    table = encoded()
    ours = layout.to_milvus(table, partition_key=PartitionKey("lang"))
    theirs = own_writer(as_rows(table), partition_key="lang")
    assert ours.schema.field("lang").type == theirs.schema.field("lang").type
    assert rows_of(ours) == rows_of(theirs.select(ours.schema.names))
    assert [row["$meta"] for row in rows_of(ours)] == [{"year": 1900}, {"year": 1901}, {"year": 1902}]


@pytest.mark.parametrize("tokens", [None, "fp16", "int8"])
def test_the_schema_is_known_before_the_rows(tokens):
    written = layout.to_milvus(encoded(tokens=tokens), partition_key=PartitionKey("year", whole_numbers=True))
    expected = layout.milvus_schema(token_vectors=bool(tokens), partition_key=PartitionKey("year", whole_numbers=True))
    assert written.schema == expected


def test_there_and_back():
    table = encoded(tokens="fp16")
    back = layout.from_milvus(layout.to_milvus(table, partition_key=PartitionKey("lang"), placeholder=1))
    for name in ("id", "text", "dense"):
        assert back.column(name).to_pylist() == table.column(name).to_pylist()
    assert back.column("token_vectors").to_pylist() == table.column("token_vectors").to_pylist()
    assert [json.loads(text) for text in back.column("metadata").to_pylist()] == [
        json.loads(text) for text in table.column("metadata").to_pylist()
    ]
    expected = table.column("sparse").to_pylist()
    expected[1] = {"indices": [1], "values": [1.0]}
    assert back.column("sparse").to_pylist() == expected


def test_parts_of_tables_are_as_the_whole():
    table = encoded([f"text {i}" for i in range(9)], tokens="int8")
    whole = rows_of(layout.to_milvus(table))
    assert rows_of(layout.to_milvus(table.slice(4, 3))) == whole[4:7]
    chunked = pa.concat_tables([table.slice(0, 2), table.slice(2, 5), table.slice(7)])
    assert rows_of(layout.to_milvus(chunked)) == whole
    part = layout.from_milvus(layout.to_milvus(table).slice(4, 3))
    assert rows_of(layout.to_milvus(part)) == whole[4:7]
    assert layout.to_milvus(table.slice(0, 0)).num_rows == 0


def test_blank_texts_are_left_out():
    assert layout.to_milvus(encoded(["a", " \n\u200b", "b"])).column("id").to_pylist() == ["d0", "d2"]


def test_sparse_vectors_as_structs_and_as_indices_and_values_are_read():
    table = layout.to_milvus(encoded())
    as_written = layout.from_milvus(table).column("sparse")
    pairs = [
        json.dumps({"indices": row["indices"][::-1], "values": row["values"][::-1]}) for row in as_written.to_pylist()
    ]
    position = table.schema.get_field_index("sparse")
    lists = layout.from_milvus(table.set_column(position, "sparse", pa.array(pairs)))
    structs = layout.from_milvus(table.set_column(position, "sparse", as_written))
    assert lists.column("sparse").to_pylist() == structs.column("sparse").to_pylist() == as_written.to_pylist()


def test_packed_vectors_are_those_of_the_protocol():
    (first, empty, third) = layout.packed_sparse(encoded().column("sparse"), 2).to_pylist()
    assert np.frombuffer(first, "<u4")[::2].tolist() == [3, 17, 70_000]
    assert np.frombuffer(first, "<f4")[1::2].tolist() == [0.25, np.float32(0.1), np.float32(1e-5)]
    assert (np.frombuffer(empty, "<u4")[0], np.frombuffer(empty, "<f4")[1]) == (2, 1.0)
    assert len(third) == 8


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"texts": ["a", "x" * 70_000]}, DocumentError, "document 'd1': its text has 70,000 bytes"),
        ({"texts": ["a", None]}, DocumentError, "document 'd1' has no text"),
        ({"texts": ["a"], "metadata": ["[1]"]}, MetadataError, "document 'd0': its metadata is list, no object"),
        ({"texts": ["a"], "metadata": ["{"]}, MetadataError, "document 'd0': its metadata is no JSON"),
        ({"texts": ["a"], "metadata": ['{"dense": 1}']}, MetadataError, "cannot be called 'dense'"),
    ],
)
def test_rows_that_cannot_be_stored_are_named(change, error, message):
    with pytest.raises(error, match=message.replace("[", r"\[")):
        layout.to_milvus(encoded(**change))


def test_a_row_without_the_partition_key_is_named():
    with pytest.raises(MetadataError, match=r"'d1': its metadata 'lang', by which .* is None, not text"):
        layout.to_milvus(
            encoded(["a", "b"], metadata=['{"lang": "de"}', '{"year": 1}']), partition_key=PartitionKey("lang")
        )
    with pytest.raises(MetadataError, match=r"'lang', by which .* is 'de', not an integer"):
        layout.to_milvus(encoded(), partition_key=PartitionKey.parse("lang:int"))


def test_a_dense_vector_that_is_not_finite_is_refused():
    table = encoded(["a"])
    broken = pa.array([[1.0, float("nan"), 0.0, 0.0]], pa.list_(pa.float32(), DIM))
    with pytest.raises(DocumentError, match="not finite"):
        layout.to_milvus(table.set_column(table.schema.get_field_index("dense"), "dense", broken))


@pytest.mark.parametrize("text", ["", "a b", "a:float", "dense", "1a"])
def test_partition_keys_that_are_none(text):
    with pytest.raises(ValueError, match="partition_key is"):
        PartitionKey.parse(text)


def test_nothing_of_it_needs_pymilvus():
    import subprocess
    import sys

    code = "import sys, trivec.bulk.layout, trivec.bulk.partition_key; sys.exit('pymilvus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False).returncode == 0
