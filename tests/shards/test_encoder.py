"""The callable that engines for tables take: its columns, its types, and what it says of tables it cannot encode."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec.shards import Encoder
from trivec.shards.columns import packed, unpacked
from trivec.vectors.token_storage import dequantized

pa = pytest.importorskip("pyarrow")

TEXTS = [text for language in SENTENCES.values() for text in language] + [""]


@pytest.fixture(scope="module")
def table():
    return pa.table({"id": [f"t{i}" for i in range(len(TEXTS))], "text": TEXTS, "kept": range(len(TEXTS))})


def encoder(checkpoint, **options):
    return Encoder(checkpoint, precision="fp32", **options)


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_columns_hold_what_the_model_gives(tiny_model, tiny_checkpoint, table, form):
    expected = tiny_model.encode(TEXTS, return_colbert_vecs=True)
    encode = encoder(tiny_checkpoint, token_vectors=form)
    encoded = encode(table)
    encoded.validate(full=True)
    assert encoded.select(table.column_names).equals(table)
    assert encoded.schema.equals(encode.schema(table.schema))
    dim = tiny_model.dim["dense"]
    dense = encoded["dense"].combine_chunks()
    assert str(dense.type) == f"fixed_size_list<element: float>[{dim}]"
    np.testing.assert_array_equal(dense.flatten().to_numpy().reshape(-1, dim), expected.dense)
    rows = encoded["sparse"].to_pylist()
    for i, row in enumerate(rows):
        assert row["indices"] == expected.sparse[i].indices.tolist()
        np.testing.assert_array_equal(np.array(row["values"], np.float32), expected.sparse[i].data)
    scales = encoded["token_scales"] if form == "int8" else [None] * len(TEXTS)
    for vectors, of_text, scale in zip(expected.colbert_vecs, encoded["token_vectors"], scales, strict=True):
        numbers = np.array(of_text.as_py(), np.float32 if form == "fp16" else np.int8).reshape(vectors.shape)
        stored = numbers if form == "fp16" else dequantized(numbers, np.array(scale.as_py(), np.float32))
        np.testing.assert_allclose(stored, vectors, atol=1e-3 if form == "fp16" else 5e-3)


def test_vectors_do_not_depend_on_the_rest_of_the_table(tiny_checkpoint, table):
    encode = encoder(tiny_checkpoint, token_vectors="int8")
    one_by_one = pa.concat_tables([encode(table.slice(i, 1)) for i in range(len(TEXTS))])
    whole = encode(table)
    for column in ("id", "text", "kept", "truncated"):
        assert one_by_one[column].combine_chunks().equals(whole[column].combine_chunks())
    np.testing.assert_allclose(
        np.array(one_by_one["dense"].to_pylist()), np.array(whole["dense"].to_pylist()), atol=1e-5
    )


def test_a_table_of_no_rows_has_the_columns(tiny_checkpoint, table):
    encode = encoder(tiny_checkpoint, token_vectors="fp16")
    assert encode(table.slice(0, 0)).schema.equals(encode(table).schema)


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_token_vectors_as_files_hold_them_and_back(tiny_checkpoint, table, form):
    encoded = encoder(tiny_checkpoint, token_vectors=form)(table)
    for part in (encoded, encoded.slice(3, 4), encoded.slice(0, 0)):
        there = packed(part)
        assert "fixed_size_binary" in str(there.schema.field("token_vectors").type)
        assert unpacked(there).equals(part)
    without = encoder(tiny_checkpoint)(table)
    assert packed(without) is without


def test_what_is_cut_is_marked(tiny_checkpoint):
    encoded = encoder(tiny_checkpoint, max_length=8)(pa.table({"text": ["short", "a long text " * 20]}))
    assert encoded["truncated"].to_pylist() == [False, True]


def test_another_text_column_and_kinds_left_out(tiny_checkpoint):
    encoded = encoder(tiny_checkpoint, text_column="body", dense=False)(pa.table({"body": ["a", "b"]}))
    assert encoded.column_names == ["body", "sparse", "truncated"]
    large = pa.table({"text": pa.array(["a"], pa.large_string())})
    assert encoder(tiny_checkpoint, sparse=False)(large).column_names == ["text", "dense", "truncated"]


def test_it_pickles_to_its_arguments_and_loads_the_model_once_a_process(tiny_checkpoint, table):
    encode = encoder(tiny_checkpoint)
    expected = encode(table)
    pickled = pickle.dumps(encode)
    assert len(pickled) < 2000
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert first.model is second.model
    assert first(table).equals(expected)
    code = "import pickle, sys, pyarrow; e = pickle.load(sys.stdin.buffer); print(e(pyarrow.table({'text': ['a']})))"
    subprocess.run([sys.executable, "-c", code], input=pickled, check=True, capture_output=True)


def test_as_the_function_of_sparks_map_in_arrow(tiny_checkpoint, table):
    """Record batches in, record batches out, in an iterator, with the schema told beforehand."""
    encode = encoder(tiny_checkpoint)

    def in_arrow(batches):
        for batch in batches:
            yield from encode(pa.Table.from_batches([batch])).to_batches()

    out = pa.Table.from_batches(in_arrow(table.to_batches(max_chunksize=5)), encode.schema(table.schema))
    assert out.num_rows == len(TEXTS)
    assert pa.types.is_fixed_size_list(out.schema.field("dense").type)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"text": ["a", None]}, "row 1 is null"),
        ({"body": ["a"]}, "no column 'text'"),
        ({"text": [1]}, "of int64, not of strings"),
        ({"text": ["a"], "dense": [1]}, "has a column 'dense' already"),
    ],
)
def test_tables_that_cannot_be_encoded(tiny_checkpoint, columns, told):
    with pytest.raises(ValueError, match=told):
        encoder(tiny_checkpoint)(pa.table(columns))


def test_arguments_that_make_no_sense(tiny_checkpoint):
    with pytest.raises(ValueError, match="nothing to compute"):
        Encoder(tiny_checkpoint, dense=False, sparse=False)
    with pytest.raises(ValueError, match="int4"):
        Encoder(tiny_checkpoint, token_vectors="int4")
    with pytest.raises(TypeError, match="'treads'"):
        Encoder(tiny_checkpoint, treads=2)
