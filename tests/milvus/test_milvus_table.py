"""Rows of a Milvus Lite file: which of them a search finds."""

from __future__ import annotations

import numpy as np
import pytest
from pymilvus import MilvusClient

from trivec.milvus import MilvusError, schema
from trivec.milvus.table import Table

DIM, ROWS = 32, 1500


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


@pytest.fixture
def rows(vectors):
    return [
        {"id": str(i), "text": "t", "dense": vector, "sparse": {1: 1.0}, "n": i} for i, vector in enumerate(vectors)
    ]


def made_by_us(uri, rows):
    table = Table("t", uri, "", "", None)
    table.create(DIM, {})
    table.upsert(rows)
    table.flush()
    table.close()


def made_by_trivec_0_1(uri, rows):
    client = MilvusClient(uri)
    schema.create(client, "t", DIM)
    schema.load(client, "t", lite=False)
    client.insert("t", rows)
    client.flush("t")
    client.close()


@pytest.mark.parametrize("make", [made_by_us, made_by_trivec_0_1])
def test_a_filter_finds_all_that_it_leaves_by_its_inner_product(tmp_path, vectors, rows, make):
    """Milvus Lite's own choice of index finds nothing for one in three filters that leave a single row."""
    make(uri := str(tmp_path / "t.db"), rows)
    table = Table("t", uri, "", "", None)
    queries = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
    scores = []
    for n in range(0, ROWS, 25):
        for query, found in zip(queries, table.nearest("dense", list(queries), 10, f"n == {n}"), strict=True):
            assert [hit.id for hit in found] == [str(n)]
            assert found[0].score == found[0].dense_score == pytest.approx(float(vectors[n] @ query), abs=1e-4)
            scores.append(found[0].score)
    assert min(scores) < 0 < max(scores)
    (everything,) = table.nearest("dense", [queries[0]], ROWS, "")
    assert [hit.id for hit in everything] == [str(i) for i in np.argsort(-(vectors @ queries[0]))]
    table.close()


def test_listing_goes_through_all_pages(tmp_path, rows):
    made_by_us(uri := str(tmp_path / "t.db"), rows)
    table = Table("t", uri, "", "", None)
    assert sorted(int(row["id"]) for row in table.listed(["id"])) == list(range(ROWS))
    assert {row["n"] for row in table.listed(["id", "n"], "n >= 1200")} == set(range(1200, ROWS))
    table.close()


@pytest.mark.parametrize("name", ["my notes", "1st", "a-b", "größe", "", "a" * 256, "../up", "a\n"])
def test_names_that_a_server_takes_not_are_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(MilvusError, match="cannot be the name of a collection"):
        Table(name, str(tmp_path / "t.db"), "", "", None)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_collection_keeps_its_odd_name(tmp_path, rows):
    client = MilvusClient(uri := str(tmp_path / "t.db"))
    schema.create(client, "my-notes", DIM)
    client.close()
    table = Table("my-notes", uri, "", "", None)
    table.upsert(rows[:3])
    assert table.count() == 3
    table.close()
