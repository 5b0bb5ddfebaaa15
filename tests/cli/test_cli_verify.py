"""`trivec verify`: comparing with published values, and precisions on given texts."""

import copy
import csv
import dataclasses
import json
import math
import re
import subprocess
import sys

import pytest

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.cli import options
from trivec.cli.app import run
from trivec.engines import processor
from trivec.errors import DeviceError
from trivec.verify.drift import measure_drift
from trivec.verify.published import TOLERANCES, Comparison, compare_with_published, published_values

TEXTS = [text for language in SENTENCES.values() for text in language]


def agreeing(model):
    """Values in the published form that are the model's own."""
    values = copy.deepcopy(published_values())
    computed = iter([comparison.computed for comparison in compare_with_published(model)])
    milvus, flag = values["milvus_docs_bge_m3_page"], values["flagembedding_bge_m3_page"]
    milvus["dim"] = {"dense": next(computed), "sparse": next(computed)}
    for side in ("documents", "queries"):
        for number in range(len(milvus[side])):
            for end in ("first3", "last3"):
                milvus[f"{side}_dense_{end}"][number] = [next(computed) for _ in range(3)]
        milvus[f"{side}_sparse_nnz"] = next(computed)
    flag["dense_similarity"] = [[next(computed) for _ in row] for row in flag["dense_similarity"]]
    flag["lexical_weights_1"] = [dict(model.token_weights(text)) for text in flag["sentences_1"]]
    q, p = (list(model.encode(flag[name], return_colbert_vecs=True)) for name in ("sentences_1", "sentences_2"))
    flag["lexical_score_00"] = model.lexical_score(q[0].sparse, p[0].sparse)
    flag["lexical_score_query0_query1"] = model.lexical_score(q[0].sparse, q[1].sparse)
    flag["colbert_score_00"] = model.colbert_score(q[0].colbert_vecs, p[0].colbert_vecs)
    flag["colbert_score_01"] = model.colbert_score(q[0].colbert_vecs, p[1].colbert_vecs)
    pairs = [(query, passage) for query in flag["sentences_1"] for passage in flag["sentences_2"]]
    flag["compute_score"] |= model.compute_score(pairs, weights=(0.4, 0.2, 0.4))
    return values


def test_a_model_that_gives_the_published_values_agrees_with_all_of_them(tiny_model):
    comparisons = compare_with_published(tiny_model, agreeing(tiny_model))
    assert len(comparisons) > 60
    assert [comparison for comparison in comparisons if not comparison.agrees] == []


@pytest.mark.parametrize(
    ("path", "change", "what"),
    [
        (("milvus_docs_bge_m3_page", "documents_dense_last3", 2, 1), 2e-4, "documents[2] dense, last 3 [1]"),
        (("milvus_docs_bge_m3_page", "queries_sparse_nnz"), 1, "queries: stored sparse elements"),
        (("milvus_docs_bge_m3_page", "dim", "dense"), 1, "dim of dense"),
        (("flagembedding_bge_m3_page", "dense_similarity", 1, 0), 3e-3, "dense similarity [1][0]"),
        (("flagembedding_bge_m3_page", "colbert_score_01"), -3e-3, "colbert_score_01"),
        (("flagembedding_bge_m3_page", "compute_score", "sparse+dense", 3), 3e-3, "compute_score sparse+dense [3]"),
    ],
)
def test_one_value_that_differs_is_named(tiny_model, path, change, what):
    values = agreeing(tiny_model)
    place = values
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] += change
    differing = [comparison.what for comparison in compare_with_published(tiny_model, values) if not comparison.agrees]
    assert differing == [what]


def test_a_token_too_few_or_too_many_differs(tiny_model):
    values = agreeing(tiny_model)
    weights = values["flagembedding_bge_m3_page"]["lexical_weights_1"][0]
    token, weight = weights.popitem()
    weights["<never a token>"] = weight
    differing = [comparison for comparison in compare_with_published(tiny_model, values) if not comparison.agrees]
    assert {comparison.what.split("' in ")[0] for comparison in differing} == {
        f"weight of {token!r}"[:-1],
        "weight of '<never a token>",
    }


def test_nan_never_agrees():
    assert not Comparison("x", 0.0, math.nan, 1.0).agrees
    assert TOLERANCES["fp32"].milvus_page < TOLERANCES["bf16"].milvus_page


def test_a_random_model_differs_with_exit_code_1(tiny_checkpoint, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["verify", str(tiny_checkpoint)]) == 1
    out, err = capsys.readouterr()
    assert "250002" in out
    assert "weight of 'What' in 'What is BGE M3?'" in out
    assert "published values agree (computed in fp32)" in err
    assert "Traceback" not in err


def test_the_real_tokenizer_gives_the_published_counts_and_tokens(xlmr_tokenizer, tmp_path):
    """Everything published that depends on the tokenizer alone, on a model whose every weight is positive."""
    folder = write_random_checkpoint(tmp_path / "m3", tokenizer=xlmr_tokenizer, sparse_bias=100.0)
    with M3Model.load(folder, precision="fp32") as model:
        comparisons = compare_with_published(model)
    by_name = {comparison.what: comparison for comparison in comparisons}
    for name in ("documents: stored sparse elements", "queries: stored sparse elements", "dim of sparse"):
        assert by_name[name].agrees
    weights = [comparison for comparison in comparisons if comparison.what.startswith("weight of")]
    assert len(weights) == 13
    assert all(comparison.published > 0 and comparison.computed > 0 for comparison in weights)


@pytest.fixture
def needs_bf16(tiny_checkpoint):
    try:
        M3Model.load(tiny_checkpoint, precision="bf16").close()
    except DeviceError:
        pytest.skip("needs a processor with AMX or AVX512-BF16")


def texts_file(folder, suffix):
    file = folder / f"texts.{suffix}"
    if suffix == "txt":
        file.write_text("\ufeff" + "\n\n".join(TEXTS) + "\n", encoding="utf-8")
    elif suffix == "jsonl":
        file.write_text("\n".join(json.dumps({"id": i, "body": t}) for i, t in enumerate(TEXTS)), encoding="utf-8")
    elif suffix == "csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["id", "body"], *enumerate(TEXTS)])
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"id": list(range(len(TEXTS))), "body": TEXTS}), file)
    return file


@pytest.mark.usefixtures("needs_bf16")
def test_drift_on_texts_is_told_in_a_table_and_a_line(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    file = texts_file(tmp_path, "txt")
    assert run(["verify", str(tiny_checkpoint), "--texts", str(file)]) == 0  # auto is bf16 here
    out, err = capsys.readouterr()
    for row in ("cosine, 1st percentile", "10 nearest neighbours in common", "weight difference, mean", "MaxSim"):
        assert row in out
    assert re.fullmatch(
        rf"bf16 beside fp32 on {len(TEXTS)} distinct texts: dense cosine at least 0\.999\d+ "
        rf"\({re.escape(file.as_posix())}:\d*[13579]\); [\d.]+% of the 10 nearest neighbours in common\n",
        err,
    )


@pytest.mark.usefixtures("needs_bf16")
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_json_holds_what_measure_drift_finds(tiny_checkpoint, tiny_model, tmp_path, capsys, suffix):
    file = texts_file(tmp_path, suffix)
    arguments = ["--texts", str(file), "--text-field", "body", "--precision", "bf16", "--json"]
    assert run(["verify", str(tiny_checkpoint), *arguments]) == 0
    facts = json.loads(capsys.readouterr().out)
    with M3Model.load(tiny_checkpoint, precision="bf16") as reduced:
        expected = dataclasses.asdict(measure_drift(tiny_model, reduced, TEXTS))
    expected["dense"]["worst_text"] = str(expected["dense"]["worst_text"])  # the records' ids are their numbers
    assert facts == {
        "model": str(tiny_checkpoint),
        "precision": "bf16",
        "compared_with": "fp32",
        "texts": len(TEXTS),
        "dense": pytest.approx(expected["dense"], abs=1e-6),
        "sparse": pytest.approx(expected["sparse"], abs=1e-6),
        "token_vectors": pytest.approx(expected["token_vectors"], abs=1e-6),
    }


@pytest.mark.usefixtures("needs_bf16")
def test_drift_of_one_text_and_one_head(tmp_path, capsys):
    folder = write_random_checkpoint(tmp_path / "m3", heads=())
    file = tmp_path / "one.txt"
    file.write_text(TEXTS[0], encoding="utf-8")
    assert run(["verify", str(folder), "--texts", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "cosine" in out
    assert not any(word in out for word in ("neighbour", "sparse", "token"))
    assert "on 1 text: dense cosine at least 0.99" in err
    assert "a single text has no neighbours to compare" in err


def test_nothing_to_compare_is_said_before_the_model_loads(tmp_path, capsys):
    file = tmp_path / "empty.txt"
    file.write_text("\n \n", encoding="utf-8")
    for arguments, code, message in [
        (["--texts", file], 1, f"{file} holds no text"),
        (["--texts", tmp_path / "none.txt"], 1, "none.txt does not exist"),
        (["--texts", tmp_path], 2, "is a directory"),
        (["--texts", file, "--precision", "fp32"], 2, "--texts compares with fp32 itself: "),
        (["--json"], 2, "--json goes with --texts FILE"),
    ]:
        assert run(["verify", "./no-such-model", *map(str, arguments)]) == code
        assert message in " ".join(capsys.readouterr().err.replace("│", "").split())


@pytest.mark.parametrize(
    ("int8", "remedy"),
    [
        (True, "to measure another precision pass --precision int8\n"),
        (False, "this processor computes in fp32 alone\n"),
    ],
)
def test_where_auto_means_fp32_nothing_changes_and_that_is_said(
    int8, remedy, tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    # A processor without bfloat16, as this one may have it.
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    monkeypatch.setattr(processor, "offers_int8", lambda: int8)
    monkeypatch.setattr(options.ModelOptions, "load", lambda _, name: M3Model.load(name, precision="fp32"))
    arguments = ["verify", str(tiny_checkpoint), "--texts", str(texts_file(tmp_path, "txt"))]
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"auto means fp32 on this machine, which is exact, so nothing changes on these texts; {remedy}" in err
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": str(tiny_checkpoint),
        "precision": "fp32",
        "compared_with": "fp32",
        "texts": len(TEXTS),
        "dense": None,
        "sparse": None,
        "token_vectors": None,
    }


def test_the_verdict_stands_before_the_table(tiny_checkpoint):
    command = [sys.executable, "-m", "trivec", "verify", str(tiny_checkpoint)]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, check=False, text=True, encoding="utf-8", **both)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "published values agree" in lines[0]
    assert len(lines) > 60
