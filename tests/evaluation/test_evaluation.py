"""Whole evaluations with a tiny model: modes against brute force, the cache, fusion weights, files and the command."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from random_checkpoint import write_random_checkpoint
from trivec import M3Model, M3Reranker
from trivec.encoding import TruncationWarning
from trivec.errors import MissingHeadError, TrivecError
from trivec.evaluation import MODES as ALL_MODES
from trivec.evaluation import (
    EvaluationReport,
    EvaluationSettings,
    RetrievalDataset,
    ThroughMilvus,
    evaluate,
    markdown_tables,
    store_fusion_weights,
    tune_fusion,
    write_chart,
)
from trivec.evaluation.metrics import per_query_metrics
from trivec.evaluation.ranking import Run
from trivec.vectors.scoring import colbert_score, dense_score, lexical_score

ir_measures = pytest.importorskip("ir_measures", reason="needs the extra eval")
pytest.importorskip("bm25s", reason="needs the extra eval")

DOCUMENTS = {
    "d01": "Alan Turing was born in Maida Vale, London, in June 1912.",
    "d02": "Artificial intelligence was founded as an academic discipline in 1956.",
    "d03": "The cat sat on the mat and purred while the dog slept.",
    "d04": "深圳是中国广东省的一座城市。",
    "d05": "Die Hauptstadt von Deutschland ist Berlin, nicht Bonn.",
    "d06": "The capital of France is Paris, on the river Seine.",
    "d07": "London is the capital of England and lies on the Thames.",
    "d08": "A bird can fly; a stone cannot.",
    "d09": "In 1956 a summer workshop was held at Dartmouth College.",
    "d10": "Berlin liegt an der Spree und hat viele Brücken.",
    "d11": "Machine learning is a part of artificial intelligence.",
    "d12": "He drank tea in the garden every afternoon.",
}
QUERIES = {
    "q1": "Where was Alan Turing born?",
    "q2": "When was artificial intelligence founded?",
    "q3": "Was ist die Hauptstadt von Deutschland?",
    "q4": "Which city is the capital of France?",
    "q5": "What can a bird do?",
}
QRELS = {
    "q1": {"d01": 1},
    "q2": {"d02": 2, "d09": 1, "d11": 0},
    "q3": {"d05": 1, "d10": 1},
    "q4": {"d06": 1},
    "q5": {"d08": 1},
}
MODES = tuple(mode for mode in ALL_MODES if mode != "cross-encoder")  # those of a model by itself
TOY = RetrievalDataset("toy", DOCUMENTS, QUERIES, QRELS)
WEIGHTS = (1.0, 0.02, 2.0)  # a random head's lexical weights are large


@pytest.fixture
def settings(tmp_path: Path) -> EvaluationSettings:
    return EvaluationSettings(candidates=4, cache_folder=tmp_path / "cache")


@pytest.fixture
def encoded(tiny_model: M3Model, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the tiny model encodes during the test; encoding goes on as it does otherwise."""
    seen: list[str] = []
    encode = tiny_model._encode

    def watched(texts: list[str], settings: object) -> object:
        seen.extend(texts)
        return encode(texts, settings)

    monkeypatch.setattr(tiny_model, "_encode", watched)
    return seen


def rankings(report: EvaluationReport) -> dict[str, dict[str, list[str]]]:
    return {mode: run.rankings() for mode, run in report.datasets[0].runs.items()}


def ranked(scores: dict[str, float], k: int) -> list[str]:
    return sorted(sorted(scores, reverse=True), key=lambda document: -scores[document])[:k]


def test_every_mode_ranks_as_brute_force(tiny_model: M3Model, settings: EvaluationSettings):
    report = evaluate(tiny_model, [TOY], settings, fusion_weights=WEIGHTS)
    found = rankings(report)
    queries = dict(zip(QUERIES, tiny_model.encode(list(QUERIES.values()), return_colbert_vecs=True), strict=True))
    documents = dict(zip(DOCUMENTS, tiny_model.encode(list(DOCUMENTS.values()), return_colbert_vecs=True), strict=True))
    for name, query in queries.items():
        dense = {d: dense_score(query.dense, one.dense) for d, one in documents.items()}
        sparse = {d: lexical_score(query.sparse, one.sparse) for d, one in documents.items()}
        maxsim = {d: colbert_score(query.colbert_vecs, one.colbert_vecs) for d, one in documents.items()}
        matching = {d: score for d, score in sparse.items() if score > 0}
        candidates = {*ranked(dense, 4), *ranked(matching, 4)}
        both = {d: WEIGHTS[0] * dense[d] + WEIGHTS[1] * sparse[d] for d in candidates}
        assert found["dense"][name] == ranked(dense, 4)
        assert found["sparse"][name] == ranked(matching, 4)
        assert found["dense+sparse"][name] == ranked(both, 4)
        assert found["multi-vector"][name] == ranked({d: maxsim[d] for d in candidates}, 4)
        assert found["all"][name] == ranked({d: both[d] + WEIGHTS[2] * maxsim[d] for d in candidates}, 4)


@pytest.mark.parametrize(("limit", "value"), [("_CANDIDATES", 1), ("_CANDIDATES", 5), ("_CANDIDATE_CHARACTERS", 120)])
def test_blocks_of_candidates_change_no_ranking(
    tiny_model: M3Model, settings: EvaluationSettings, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
):
    whole = rankings(evaluate(tiny_model, [TOY], settings, modes=["multi-vector", "all"]))
    monkeypatch.setattr(f"trivec.evaluation.encodings.{limit}", value)
    fresh = EvaluationSettings(candidates=4, use_cache=False)
    assert rankings(evaluate(tiny_model, [TOY], fresh, modes=["multi-vector", "all"])) == whole


@pytest.mark.parametrize("form", ["fp16", "int8"])
@pytest.mark.parametrize("exact", [True, False], ids=["every document", "candidates"])
def test_through_milvus_the_same_is_found(
    tiny_model: M3Model, settings: EvaluationSettings, monkeypatch: pytest.MonkeyPatch, form: Any, exact: bool
):
    """Also a query that is a document does not find it, and weights are those of the evaluation."""
    if not exact:
        monkeypatch.setattr("trivec.milvus.late_interaction._MOST_SECONDS", 0.0)
    dataset = RetrievalDataset("toy", DOCUMENTS, {**QUERIES, "d03": DOCUMENTS["d03"]}, {**QRELS, "d03": {"d01": 1}})
    whole = EvaluationSettings(candidates=len(DOCUMENTS), cache_folder=settings.cache_folder)
    through = ThroughMilvus(form)
    modes = ["multi-vector", "all"]
    report = evaluate(tiny_model, [dataset], whole, modes=modes, fusion_weights=WEIGHTS, milvus=through)
    assert report.modes == ("multi-vector", "all", "multi (Milvus)", "all (Milvus)")
    runs = report.datasets[0].runs
    for in_memory, by_milvus in (("multi-vector", "multi (Milvus)"), ("all", "all (Milvus)")):
        expected = dict(pairs_of(runs[in_memory]))
        assert dict(pairs_of(runs[by_milvus])) == pytest.approx(expected, abs=1e-3 if form == "fp16" else 1e-2)
        assert "d03" not in runs[by_milvus].rankings()["d03"]
        assert len(expected) > 40


def pairs_of(run: Run) -> Iterator[tuple[tuple[str, str], float]]:
    for query, document, score in zip(run.pairs.query, run.pairs.document, run.pairs.score, strict=True):
        yield (run.query_ids[query], run.document_ids[document]), float(score)


def test_the_score_of_all_is_the_models_own(tiny_model: M3Model, settings: EvaluationSettings):
    run = evaluate(tiny_model, [TOY], settings, fusion_weights=WEIGHTS, modes=["all"]).datasets[0].runs["all"]
    asked = list(QUERIES.values())
    pairs = [
        (asked[q], DOCUMENTS[run.document_ids[d]]) for q, d in zip(run.pairs.query, run.pairs.document, strict=True)
    ]
    expected = tiny_model.compute_score(pairs, WEIGHTS)["colbert+sparse+dense"]
    np.testing.assert_allclose(run.pairs.score, expected, rtol=1e-5)


def test_a_cross_encoder_reranks_what_dense_and_sparse_search_find(
    tiny_model: M3Model, tiny_reranker: M3Reranker, settings: EvaluationSettings, monkeypatch: pytest.MonkeyPatch
):
    report = evaluate(tiny_model, [TOY], settings, reranker=tiny_reranker)
    assert report.modes == ALL_MODES
    assert report.to_dict()["reranker"] == f"{tiny_reranker.name} in fp32"
    assert f"cross-encoder: {tiny_reranker.name} in fp32." in markdown_tables(report)
    found = rankings(report)
    for name, query in QUERIES.items():
        candidates = sorted({*found["dense"][name], *found["sparse"][name]})
        best = tiny_reranker.rank(query, [DOCUMENTS[document] for document in candidates], 4)
        assert found["cross-encoder"][name] == [candidates[one.index] for one in best]
    monkeypatch.setattr(tiny_reranker, "scored", None)  # a second run finds all scores in the cache
    again = evaluate(tiny_model, [TOY], settings, modes=["cross-encoder"], reranker=tiny_reranker)
    assert rankings(again)["cross-encoder"] == found["cross-encoder"]
    with pytest.raises(ValueError, match="needs a reranker"):
        evaluate(tiny_model, [TOY], settings, modes=["cross-encoder"])


def test_equal_scores_stand_in_trec_evals_order(tiny_model: M3Model, settings: EvaluationSettings, tmp_path: Path):
    twins = DOCUMENTS | {"a01": DOCUMENTS["d01"], "z01": DOCUMENTS["d01"]}
    dataset = RetrievalDataset("twins", twins, QUERIES, QRELS)
    report = evaluate(tiny_model, [dataset], settings)
    for mode, run in report.datasets[0].runs.items():
        run.write(tmp_path / f"{mode}.trec", mode)
        read = list(ir_measures.read_trec_run(str(tmp_path / f"{mode}.trec")))
        value = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], QRELS, read)[ir_measures.nDCG @ 10]
        assert value == pytest.approx(report.datasets[0].estimates[mode]["nDCG@10"].mean)
    assert rankings(report)["bm25-words"]["q1"][:3] == ["z01", "d01", "a01"]
    assert rankings(report)["bm25-pieces"]["q1"][:3] == ["z01", "d01", "a01"]


def test_figures_are_those_of_the_rankings(tiny_model: M3Model, settings: EvaluationSettings):
    other = RetrievalDataset("other", DOCUMENTS, QUERIES, {"q1": QRELS["q1"], "q4": QRELS["q4"]})
    report = evaluate(tiny_model, [TOY, other], settings)
    assert report.modes == MODES
    assert [(one.name, one.queries, one.documents) for one in report.datasets] == [("toy", 5, 12), ("other", 2, 12)]
    for mode in MODES:
        for dataset, source in zip(report.datasets, (TOY, other), strict=True):
            values = per_query_metrics(dataset.runs[mode].rankings(), source.qrels)
            for metric, expected in values.items():
                assert dataset.estimates[mode][metric].mean == pytest.approx(expected.mean())
        means = [dataset.estimates[mode]["nDCG@10"].mean for dataset in report.datasets]
        assert report.macro[mode]["nDCG@10"].mean == pytest.approx(np.mean(means))
    assert report.datasets[0].estimates["bm25-pieces"]["R@1"].p_value is None  # the baseline itself
    assert 0 <= report.datasets[0].estimates["dense"]["R@1"].p_value <= 1
    assert report.datasets[0].estimates["bm25-words"]["nDCG@10"].mean > 0.8  # the words are all there to be matched


def test_a_second_run_encodes_nothing(tiny_model: M3Model, encoded: list[str], settings: EvaluationSettings):
    first = evaluate(tiny_model, [TOY], settings)
    assert set(encoded) == {*DOCUMENTS.values(), *QUERIES.values()}
    encoded.clear()
    second = evaluate(tiny_model, [TOY], settings, fusion_weights=(0.2, 0.3, 0.5))
    assert encoded == []
    assert second.to_dict()["datasets"][0]["modes"]["dense"] == first.to_dict()["datasets"][0]["modes"]["dense"]


def test_what_changes_vectors_is_encoded_again(tiny_model: M3Model, encoded: list[str], settings: EvaluationSettings):
    evaluate(tiny_model, [TOY], settings, modes=["dense"])
    encoded.clear()
    shorter = EvaluationSettings(candidates=4, cache_folder=settings.cache_folder, max_length=8)
    for _ in range(2):  # also where the vectors come from the cache
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            evaluate(tiny_model, [TOY], shorter)
        messages = [str(warning.message) for warning in caught if warning.category is TruncationWarning]
        assert {warning.filename for warning in caught} == {__file__}
        assert messages == [
            "toy: queries: 5 of 5 texts had more than max_length=8 tokens and were cut to it",
            "toy: documents: 12 of 12 texts had more than max_length=8 tokens and were cut to it",
        ]
    assert set(encoded) == {*DOCUMENTS.values(), *QUERIES.values()}
    encoded.clear()
    changed = RetrievalDataset("toy", DOCUMENTS | {"d12": "He drank coffee."}, QUERIES, QRELS)
    evaluate(tiny_model, [changed], settings, modes=["dense"])
    assert set(encoded) == set(changed.documents.values())  # the queries are still known


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_never_changes_figures(tiny_model: M3Model, settings: EvaluationSettings, position: float):
    first = evaluate(tiny_model, [TOY], settings)
    for path in Path(settings.cache_folder).rglob("*.npz"):
        data = bytearray(path.read_bytes())
        data[int(position * len(data))] ^= 4
        path.write_bytes(data)
    assert evaluate(tiny_model, [TOY], settings).to_dict() == first.to_dict()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: bytes(byte ^ 1 if i % 499 == 250 else byte for i, byte in enumerate(data)),
        lambda _: b"",
    ],
    ids=["truncated", "bits flipped", "emptied"],
)
def test_damaged_entries_are_computed_again(
    tiny_model: M3Model, encoded: list[str], settings: EvaluationSettings, damage: Callable[[bytes], bytes]
):
    first = evaluate(tiny_model, [TOY], settings)
    entries = [path for path in Path(settings.cache_folder).rglob("*") if path.is_file()]
    assert len(entries) == 3  # queries, documents, and MaxSim scores
    for path in entries:
        path.write_bytes(damage(path.read_bytes()))
    encoded.clear()
    assert evaluate(tiny_model, [TOY], settings).to_dict() == first.to_dict()
    assert set(encoded) == {*DOCUMENTS.values(), *QUERIES.values()}
    encoded.clear()
    evaluate(tiny_model, [TOY], settings)
    assert encoded == []


def test_other_questions_get_scores_of_their_own(tiny_model: M3Model, settings: EvaluationSettings):
    whole = EvaluationSettings(cache_folder=settings.cache_folder)  # every document is a candidate, before and after
    evaluate(tiny_model, [TOY], whole, modes=["multi-vector"])
    others = RetrievalDataset("toy", DOCUMENTS, {name: text[::-1] for name, text in QUERIES.items()}, QRELS)
    cached = evaluate(tiny_model, [others], whole, modes=["multi-vector"])
    fresh = evaluate(tiny_model, [others], EvaluationSettings(use_cache=False), modes=["multi-vector"])
    assert rankings(cached) == rankings(fresh)


def test_another_models_vectors_are_not_taken_but_stored_weights_change_none(tmp_path: Path, tiny_checkpoint: Path):
    settings = EvaluationSettings(candidates=4, cache_folder=tmp_path / "cache")
    entries = []
    ours = shutil.copytree(tiny_checkpoint, tmp_path / "ours")
    for prepare in (
        lambda: None,
        lambda: store_fusion_weights(ours, (0.5, 0.25, 0.25)),
        lambda: write_random_checkpoint(ours, seed=1),
    ):
        prepare()
        with M3Model.load(ours, precision="fp32") as model:
            evaluate(model, [TOY], settings, modes=["dense"])
        entries.append(len(list((tmp_path / "cache").rglob("*.npz"))))
    assert entries == [2, 2, 4]


def test_without_a_cache_nothing_is_left(tiny_model: M3Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRIVEC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    evaluate(tiny_model, [TOY], EvaluationSettings(use_cache=False), modes=["dense"])
    assert not (tmp_path / "cache").exists()
    evaluate(tiny_model, [TOY], EvaluationSettings(), modes=["dense"])
    assert (tmp_path / "cache" / "trivec" / "evaluation").is_dir()


def test_a_document_with_the_querys_id_is_not_found(tiny_model: M3Model, settings: EvaluationSettings):
    corpus = DOCUMENTS | {"q1": QUERIES["q1"]}
    report = evaluate(tiny_model, [RetrievalDataset("own", corpus, QUERIES, QRELS)], settings)
    found = rankings(report)
    assert all("q1" not in found[mode]["q1"] for mode in MODES)
    assert any("q1" in ranking for mode in MODES for ranking in found[mode].values())  # others may find it


def test_a_model_without_heads_is_measured_in_the_modes_it_has(tmp_path: Path, settings: EvaluationSettings):
    folder = write_random_checkpoint(tmp_path / "no-colbert", heads=("sparse",))
    with M3Model.load(folder, precision="fp32") as model:
        report = evaluate(model, [TOY], settings)
        assert report.modes == ("dense", "sparse", "dense+sparse", "bm25-words", "bm25-pieces")
        with pytest.raises(MissingHeadError, match=r"colbert_linear\.pt"):
            evaluate(model, [TOY], settings, modes=["all"])
        with pytest.raises(MissingHeadError, match=r"colbert_linear\.pt"):
            tune_fusion(model, [TOY], settings)


def test_arguments_that_cannot_be_are_refused(tiny_model: M3Model, settings: EvaluationSettings):
    with pytest.raises(ValueError, match="mode 'spare' is not one of dense, sparse"):
        evaluate(tiny_model, [TOY], settings, modes=["spare"])
    with pytest.raises(ValueError, match="baseline='sparse' is not among the measured modes: dense"):
        evaluate(tiny_model, [TOY], settings, modes=["dense"], baseline="sparse")
    with pytest.raises(ValueError, match="two data sets are called 'toy'"):
        evaluate(tiny_model, [TOY, TOY], settings)
    with pytest.raises(ValueError, match=r"got \[1, -1, 1\]"):
        evaluate(tiny_model, [TOY], settings, fusion_weights=(1, -1, 1))


def test_runs_are_what_trec_eval_reads(tiny_model: M3Model, settings: EvaluationSettings, tmp_path: Path):
    report = evaluate(tiny_model, [TOY], settings)
    paths = report.write_runs(tmp_path / "runs")
    assert sorted(path.name for path in paths) == sorted(f"toy.{mode}.trec" for mode in MODES)
    for mode in MODES:
        run = list(ir_measures.read_trec_run(str(tmp_path / "runs" / f"toy.{mode}.trec")))
        value = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], QRELS, run)[ir_measures.nDCG @ 10]
        assert value == pytest.approx(report.datasets[0].estimates[mode]["nDCG@10"].mean)
    query, fixed, document, rank, score, tag = (tmp_path / "runs" / "toy.dense.trec").read_text().split("\n")[0].split()
    assert (query, fixed, rank, tag) == ("q1", "Q0", "1", "trivec-dense")
    assert document in DOCUMENTS
    assert -1 <= float(score) <= 1


def test_markdown_tables_hold_the_figures(tiny_model: M3Model, settings: EvaluationSettings):
    other = RetrievalDataset("other", DOCUMENTS, QUERIES, {"q1": QRELS["q1"]})
    text = markdown_tables(evaluate(tiny_model, [TOY, other], settings, modes=["bm25-words", "bm25-pieces"]))
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if "|" in line]
    assert ["mode", "nDCG@10", "Recall@100", "MRR@10", "R@1"] in lines
    assert ["data set", "queries", "documents", "bm25-words", "bm25-pieces"] in lines
    # q1 has the words of d01, and a single query has no interval, so no test either.
    assert any(line[:4] == ["other", "1", "12", "100.0"] for line in lines)


def test_json_and_chart(tiny_model: M3Model, settings: EvaluationSettings, tmp_path: Path):
    report = evaluate(tiny_model, [TOY], settings, fusion_weights=WEIGHTS)
    report.write_json(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written["fusion_weights"] == list(WEIGHTS)
    figures = written["datasets"][0]["modes"]["all"]["nDCG@10"]
    assert figures["low"] <= figures["mean"] <= figures["high"]
    assert figures["mean"] == report.datasets[0].estimates["all"]["nDCG@10"].mean
    pytest.importorskip("matplotlib", reason="needs the extra eval")
    write_chart(report, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(TrivecError, match=r"chart\.txt: a chart's name ends in one of .*png"):
        write_chart(report, tmp_path / "chart.txt")


def test_tuned_weights_are_at_least_as_good_as_any_single_score(tiny_model: M3Model, settings: EvaluationSettings):
    weights, reached = tune_fusion(tiny_model, [TOY], settings)
    report = evaluate(tiny_model, [TOY], settings, fusion_weights=weights)
    figures = {mode: report.macro[mode]["nDCG@10"].mean for mode in MODES}
    assert figures["all"] == pytest.approx(reached)
    assert figures["all"] >= max(figures[mode] for mode in ("dense", "sparse")) - 1e-9


def test_stored_weights_leave_the_rest_of_the_config(tmp_path: Path, tiny_checkpoint: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    before = json.loads((folder / "config.json").read_text())
    store_fusion_weights(folder, (0.5, 0.2, 0.3))
    after = json.loads((folder / "config.json").read_text())
    assert after.pop("trivec") == {"fusion_weights": [0.5, 0.2, 0.3]}
    assert after == before
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in tiny_checkpoint.iterdir())
    with pytest.raises(ValueError, match="fusion weights must be three numbers"):
        store_fusion_weights(folder, (0, 0, 1))
    with pytest.raises(TrivecError, match="is no model folder"):
        store_fusion_weights("BAAI/bge-m3", (1, 1, 1))


@pytest.fixture
def command() -> Callable[..., object]:
    pytest.importorskip("trivec.cli.reporting")
    from trivec.cli.eval import evaluate as evaluate_command
    from trivec.cli.reporting import reported

    app = typer.Typer()
    app.command("eval")(reported(evaluate_command))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def pair_file(tmp_path: Path) -> Path:
    rows = [
        {"query": text, "pos": [DOCUMENTS[d] for d, grade in QRELS[query].items() if grade], "neg": [DOCUMENTS["d12"]]}
        for query, text in QUERIES.items()
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_command_prints_figures_and_writes_what_it_is_told_to(
    command: Callable[..., object], tmp_path: Path, tiny_checkpoint: Path, pair_file: Path
):
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    options = ("--precision", "fp32", "--cache-dir", tmp_path / "cache", "--json", tmp_path / "figures.json")
    result = command(
        model, pair_file, *options, "--runs", tmp_path / "runs", "--tune-fusion", pair_file, "--save-fusion"
    )
    assert result.exit_code == 0, result.output
    assert "5 queries" in result.output
    assert "bm25-pieces" in result.output
    assert "5 questions are in the development data too" in result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    stored = json.loads((model / "config.json").read_text())["trivec"]["fusion_weights"]
    assert figures["fusion_weights"] == stored
    assert len(list((tmp_path / "runs").iterdir())) == len(MODES)


def test_the_command_measures_a_cross_encoder(
    command: Callable[..., object],
    tmp_path: Path,
    tiny_checkpoint: Path,
    tiny_reranker_checkpoint: Path,
    pair_file: Path,
):
    options = ("--precision", "fp32", "--cache-dir", tmp_path / "cache", "--candidates", 4, "--mode", "cross-encoder")
    result = command(tiny_checkpoint, pair_file, *options, "--reranker", tiny_reranker_checkpoint)
    assert result.exit_code == 0, result.output
    assert "cross-encoder" in result.output
    result = command(tiny_checkpoint, pair_file, *options)
    assert result.exit_code == 2
    assert "needs --reranker" in " ".join(result.output.split())


def test_the_command_says_what_is_wrong_in_one_line(
    command: Callable[..., object], tmp_path: Path, tiny_checkpoint: Path, pair_file: Path
):
    pair_file.write_text('{"query": "a", "pos": ["b"]}\n{"query": "a"}\n', encoding="utf-8")
    result = command(tiny_checkpoint, pair_file)
    assert result.exit_code == 1
    assert "pairs.jsonl:2: 'pos' is missing or empty" in " ".join(result.output.split())
    assert "Traceback" not in result.output
    result = command(tiny_checkpoint, tmp_path, "--save-fusion")
    assert result.exit_code == 2


def test_data_sets_and_reports_show_themselves_in_a_line(tiny_model: M3Model, settings: EvaluationSettings):
    assert repr(TOY) == "RetrievalDataset('toy', 5 queries, 12 documents)"
    report = evaluate(tiny_model, [TOY], settings, modes=["dense", "bm25-words"])
    means = [100 * report.macro[mode]["nDCG@10"].mean for mode in ("dense", "bm25-words")]
    figures = f"nDCG@10 dense {means[0]:.1f}, bm25-words {means[1]:.1f})"
    assert repr(report) == f"EvaluationReport({tiny_model.name!r} in fp32 on 'toy', {figures}"
    assert repr(report.datasets[0]) == f"DatasetReport('toy', 5 queries, 12 documents, {figures}"


@pytest.mark.parametrize("option", ["--json", "--markdown", "--chart"])
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    command: Callable[..., object], tmp_path: Path, pair_file: Path, option: str
):
    result = command("no-such-model", pair_file, option, tmp_path / "nowhere" / "figures.svg")
    assert result.exit_code == 2
    assert f"{option} " in result.output
    assert "there is no folder" in " ".join(result.output.replace("\u2502", "").split())


def test_a_baseline_that_is_not_measured_is_told_before_the_work_by_the_names_of_the_options(
    command: Callable[..., object], pair_file: Path
):
    result = command("no-such-model", pair_file, "--mode", "dense", "--baseline", "sparse")
    assert result.exit_code == 2
    assert "--baseline sparse is not measured: give --mode sparse too" in result.output
