"""docs/scale.md: its tables are what benchmarks/scale.py prints, and bytes are those of a real file."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from trivec.cli.app import run

pq = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
scale = importlib.util.module_from_spec(spec)
sys.modules["scale"] = scale  # dataclasses look there
spec.loader.exec_module(scale)


def test_the_tables_are_those_of_the_script():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    told = page.partition("<!-- scale -->\n")[2].partition("<!-- /scale -->")[0]
    assert told == scale.tables(scale.Corpus())


def test_hours_and_money():
    """By hand: 10^9 x 184 tokens at 1,000 a second are 184 x 10^6 s, 51,111 h; at 10 cents an hour, 5,111 dollars."""
    machine = scale.Machine("m", 1000, 0.1, "given")
    row = list(scale.hours_table(scale.Corpus(), (machine,)))[-1]
    assert row == "| m | 1,000 | 5.43 | 51,111 | 305 | 30.7 min | $5,111 at $0.10 an hour | given |"


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_bytes_are_those_of_a_file(tiny_model, tiny_checkpoint, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    texts = [f"passage {i} of boats and bridges, and of lakes that lie between them " * 4 for i in range(400)]
    Path("p.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    options = ["--precision", "fp32", "--token-vectors", form]
    assert run(["encode", "p.jsonl", "--out", "v/", "-m", str(tiny_checkpoint), *options]) == 0
    embeddings = tiny_model.encode(texts, return_colbert_vecs=True)
    corpus = scale.Corpus(
        passages=len(texts),
        tokens=sum(len(vectors) + 1 for vectors in embeddings.colbert_vecs) / len(texts),
        lexical_weights=embeddings.sparse.nnz / len(texts),
        text_bytes=0,
        dim=tiny_model.dim["dense"],
    )
    each = corpus.bytes_a_passage()
    planned = len(texts) * (each["dense"] + each["sparse"] + each[f"token vectors, {form}"])
    file = pq.ParquetFile("v/shard-000000.parquet")
    columns = {}
    for group in range(file.num_row_groups):
        for column in range(file.metadata.num_columns):
            chunk = file.metadata.row_group(group).column(column)
            name = chunk.path_in_schema.partition(".")[0]
            columns[name] = columns.get(name, 0) + chunk.total_compressed_size
    stored = sum(columns.get(name, 0) for name in ("dense", "sparse", "token_vectors", "token_scales"))
    assert stored == pytest.approx(planned, rel=0.05)
