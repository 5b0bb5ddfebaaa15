"""`trivec info` and `trivec verify` of a cross-encoder."""

from __future__ import annotations

import copy
import json

import pytest

from sample_texts import SENTENCES
from trivec import M3Reranker
from trivec.engines.processor import has_bf16
from trivec.verify.reranker import (
    compare_reranker_with_published,
    measure_reranker_drift,
    published_reranker_values,
)

PASSAGES = {texts[0]: [*texts[1:], *SENTENCES["en"]] for texts in SENTENCES.values()}
needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="needs a processor with AMX or AVX512-BF16")


def test_info(trivec_command, tiny_reranker_checkpoint):
    code, out, _ = trivec_command("info", tiny_reranker_checkpoint, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["kind"] == "cross-encoder"
    assert facts["heads"] == {"classifier.dense": [32, 32], "classifier.out_proj": [1, 32]}
    assert facts["max_length"] == 1024
    assert len(facts["fingerprint"]) == 64


def test_published_scores(tiny_reranker):
    values = copy.deepcopy(published_reranker_values())
    computed = [comparison.computed for comparison in compare_reranker_with_published(tiny_reranker)]
    assert len(computed) == 10
    values["milvus_docs_bge_reranker_page"]["normalized"] = computed[:4]
    values["flagembedding_bge_reranker_page"] |= {"scores": computed[4:7], "normalized": computed[7:]}
    assert all(each.agrees for each in compare_reranker_with_published(tiny_reranker, values))
    values["milvus_docs_bge_reranker_page"]["normalized"][2] += 2e-4
    (differing,) = [each for each in compare_reranker_with_published(tiny_reranker, values) if not each.agrees]
    assert differing.what == "documents[2]"


def test_a_random_reranker_differs_with_exit_code_1(trivec_command, tiny_reranker_checkpoint):
    code, out, err = trivec_command("verify", tiny_reranker_checkpoint)
    assert code == 1
    assert "of 10 published values agree (computed in fp32)" in err
    assert "what is panda?" in out
    assert "Traceback" not in err


def pairs_file(folder):
    file = folder / "pairs.jsonl"
    rows = [{"query": query, "pos": texts[:1], "neg": texts[1:]} for query, texts in PASSAGES.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@needs_bf16
def test_drift(trivec_command, tiny_reranker_checkpoint, tiny_reranker, tmp_path):
    with M3Reranker.load(tiny_reranker_checkpoint, precision="bf16") as other:
        drift = measure_reranker_drift(tiny_reranker, other, PASSAGES)
        query, passage = drift.worst_pair
        assert passage in PASSAGES[query]
        assert drift.difference_max == pytest.approx(
            abs(tiny_reranker.compute_score((query, passage)) - other.compute_score((query, passage))), abs=1e-4
        )
    assert 0 < drift.difference_mean < drift.difference_max < 0.1
    assert 0 < drift.normalized_difference_max < drift.difference_max
    assert 0.9 < drift.same_order <= 1
    code, out, _ = trivec_command(
        "verify", tiny_reranker_checkpoint, "--texts", pairs_file(tmp_path), "--precision", "bf16", "--json"
    )
    assert code == 0
    told = json.loads(out)
    assert told["precision"] == "bf16"
    assert told["scores"]["pairs"] == drift.pairs
    assert told["scores"]["difference_max"] == pytest.approx(drift.difference_max, abs=1e-3)
    code, out, err = trivec_command(
        "verify", tiny_reranker_checkpoint, "--texts", pairs_file(tmp_path), "--precision", "bf16"
    )
    assert code == 0
    assert "bf16 beside fp32" in err
    assert "two passages of a query in the same order" in out


def test_no_drift_beside_itself(tiny_reranker):
    drift = measure_reranker_drift(tiny_reranker, tiny_reranker, PASSAGES)
    assert (drift.difference_max, drift.same_order, drift.same_best) == (0, 1, 1)
    assert drift.queries == len(PASSAGES)
    alone = measure_reranker_drift(tiny_reranker, tiny_reranker, {"a": ["b", "b"]})
    assert (alone.pairs, alone.same_order, alone.same_best) == (1, None, None)
    with pytest.raises(ValueError, match="no pairs"):
        measure_reranker_drift(tiny_reranker, tiny_reranker, {})


def test_verify_refuses_fp32_beside_itself(trivec_command, tiny_reranker_checkpoint, tmp_path):
    code, _, err = trivec_command(
        "verify", tiny_reranker_checkpoint, "--texts", pairs_file(tmp_path), "--precision", "fp32"
    )
    assert code == 2
    assert "compares with fp32 itself" in " ".join(err.split())
