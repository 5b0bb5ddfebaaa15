"""Hard negatives, mined by real searches in Milvus Lite."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trivec import M3Model
from trivec.encoding import TruncationWarning
from trivec.errors import TrivecError
from trivec.evaluation import DatasetError
from trivec.vectors.scoring import dense_score, lexical_score

pytest.importorskip("milvus_lite", reason="needs the extra milvus")

from trivec.mining import Mined, mine_negatives

POSITIVE = "Alan Turing was born in Maida Vale, London."
CORPUS = [
    POSITIVE,
    "alan turing  was born in maida vale, london.",
    "AI was founded as an academic discipline in 1956.",
    "The cat sat on the mat.",
    "London is the capital of England.",
    "Berlin liegt an der Spree.",
    "A bird can fly.",
    "He was born in Paris.",
    "深圳是中国的一座城市。",
]
QUESTION = "Where was Alan Turing born?"


def write_questions(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def mined(model: M3Model, tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> tuple[Mined, list[dict[str, Any]]]:
    questions = write_questions(tmp_path / "questions.jsonl", *rows)
    settings = {"corpus": CORPUS, "ranks": (1, 100), "show_progress": False, **settings}
    result = mine_negatives(model, questions, tmp_path / "train.jsonl", **settings)
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return result, [json.loads(line) for line in lines]


def scores(model: M3Model, mode: str) -> dict[str, float]:
    query, *documents = model.encode([QUESTION, *CORPUS])
    by_text = {}
    for text, document in zip(CORPUS, documents, strict=True):
        dense, sparse = dense_score(query.dense, document.dense), lexical_score(query.sparse, document.sparse)
        by_text[text] = {"dense": dense, "sparse": sparse, "hybrid": dense + sparse}[mode]
    return by_text


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_negatives_are_the_passages_below_the_margin_best_first(
    tiny_model: M3Model, tmp_path: Path, mode: str, margin: float
):
    expected = scores(tiny_model, mode)
    ceiling = expected[POSITIVE] - margin * abs(expected[POSITIVE])
    negatives = [text for text in CORPUS[2:] if mode != "sparse" or expected[text] > 0]
    allowed = sorted((text for text in negatives if expected[text] <= ceiling), key=lambda text: -expected[text])
    result, (row,) = mined(tiny_model, tmp_path, {"query": QUESTION, "pos": [POSITIVE]}, mode=mode, margin=margin)
    assert row == {"query": QUESTION, "pos": [POSITIVE], "neg": allowed}
    assert result == Mined(1, len(allowed), int(len(allowed) < 15), len(negatives) - len(allowed))


def test_margin_is_measured_from_the_worst_positive_even_outside_the_corpus(tiny_model: M3Model, tmp_path: Path):
    expected = scores(tiny_model, "dense")
    elsewhere = "Berge sind hoch und Täler sind tief."
    query, document = tiny_model.encode([QUESTION, elsewhere])
    worst = min(expected[POSITIVE], dense_score(query.dense, document.dense))
    rows = {"query": QUESTION, "pos": [POSITIVE, elsewhere]}
    _, (row,) = mined(tiny_model, tmp_path, rows, margin=0.0)
    assert set(row["neg"]) == {text for text in CORPUS[2:] if expected[text] <= worst}


def test_draw_is_from_the_ranks_asked_for_and_repeats_with_its_seed(tiny_model: M3Model, tmp_path: Path):
    row = {"query": QUESTION, "pos": [POSITIVE]}
    expected = scores(tiny_model, "dense")
    best_first = sorted(CORPUS[2:], key=lambda text: -expected[text])
    settings = {"margin": 0.0, "negatives": 2, "ranks": (2, 5)}
    draws = []
    for seed in range(8):
        _, (first,) = mined(tiny_model, tmp_path, row, seed=seed, **settings)
        _, (again,) = mined(tiny_model, tmp_path, row, seed=seed, **settings)
        assert first == again
        allowed = [text for text in best_first[1:5] if expected[text] <= expected[POSITIVE]]
        assert len(first["neg"]) == min(2, len(allowed))
        assert set(first["neg"]) <= set(allowed)
        draws.append(tuple(first["neg"]))
    assert len(set(draws)) > 1


def test_rows_keep_their_other_fields_and_listed_negatives(tiny_model: M3Model, tmp_path: Path):
    row = {
        "queries": [QUESTION, "Who was Turing?"],
        "pos": POSITIVE,
        "neg": [CORPUS[3]],
        "lang": "en",
        "pos_scores": [1],
    }
    _, rows = mined(tiny_model, tmp_path, row, margin=0.0)
    assert [one["query"] for one in rows] == [QUESTION, "Who was Turing?"]
    for one in rows:
        assert one["pos"] == [POSITIVE]
        assert one["neg"][0] == CORPUS[3]
        assert len(set(one["neg"])) == len(one["neg"])
        assert one["lang"] == "en"
        assert set(one) == {"query", "pos", "neg", "lang"}  # scores belonged to the old lists


def test_without_a_corpus_the_other_questions_passages_are_searched(tiny_model: M3Model, tmp_path: Path):
    rows = [{"query": f"question {i}", "pos": [text]} for i, text in enumerate(CORPUS[2:])]
    _, written = mined(tiny_model, tmp_path, *rows, corpus=None, margin=0.0)
    assert len(written) == len(rows)
    for row in written:
        assert set(row["neg"]) <= set(CORPUS[2:]) - set(row["pos"])


def test_texts_that_are_cut_are_told_at_the_line_of_the_caller(tiny_model: M3Model, tmp_path: Path):
    rows = [{"query": "a", "pos": [f"a small boat crossed the lake {i}"]} for i in range(120)]  # two rounds of searches
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        mined(tiny_model, tmp_path, *rows, corpus=["b"], max_length=5)
    assert [(each.category, each.message.truncated, each.filename) for each in told] == [
        (TruncationWarning, 120, __file__)
    ]


def test_the_output_may_be_the_input(tiny_model: M3Model, tmp_path: Path):
    path = write_questions(tmp_path / "questions.jsonl", {"query": QUESTION, "pos": [POSITIVE]})
    _, expected = mined(tiny_model, tmp_path, {"query": QUESTION, "pos": [POSITIVE]}, margin=0.0)
    mine_negatives(tiny_model, path, path, corpus=CORPUS, ranks=(1, 100), margin=0.0, show_progress=False)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == expected


def test_a_damaged_file_is_named_and_leaves_the_output_alone(tiny_model: M3Model, tmp_path: Path):
    (tmp_path / "train.jsonl").write_text("what was here\n")
    (tmp_path / "questions.jsonl").write_text('{"query": "a", "pos": ["b"]}\n{"query": "a", "pos": []}\n')
    with pytest.raises(DatasetError, match=r"questions\.jsonl:2: 'pos' is missing or empty"):
        mine_negatives(tiny_model, tmp_path / "questions.jsonl", tmp_path / "train.jsonl")
    assert (tmp_path / "train.jsonl").read_text() == "what was here\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["questions.jsonl", "train.jsonl"]


def test_an_output_that_cannot_be_is_refused_before_any_work(tiny_model: M3Model, tmp_path: Path):
    questions = write_questions(tmp_path / "questions.jsonl", {"query": QUESTION, "pos": [POSITIVE]})
    for output, why in ((tmp_path, "it is a folder"), (tmp_path / "no" / "x.jsonl", "its folder does not exist")):
        with pytest.raises(TrivecError, match=f"cannot write {output}: {why}"):
            mine_negatives(tiny_model, questions, output, ranks=(1, 1), show_progress=False)


@pytest.mark.parametrize(
    "wrong", [{"ranks": (5, 2)}, {"ranks": (0, 2)}, {"negatives": 0}, {"margin": 1.0}, {"mode": "x"}]
)
def test_arguments_that_cannot_be_are_refused(tiny_model: M3Model, tmp_path: Path, wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        mined(tiny_model, tmp_path, {"query": QUESTION, "pos": [POSITIVE]}, **wrong)


@pytest.fixture
def command() -> Callable[..., object]:
    pytest.importorskip("trivec.cli.reporting")
    from trivec.cli.mine import mine
    from trivec.cli.reporting import reported

    app = typer.Typer()
    app.command("mine")(reported(mine))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_mines_from_a_corpus_file(command: Callable[..., Any], tmp_path: Path, tiny_checkpoint: Path):
    corpus = write_questions(tmp_path / "corpus.jsonl", *({"text": text} for text in CORPUS))
    questions = write_questions(tmp_path / "questions.jsonl", {"query": QUESTION, "pos": [POSITIVE]})
    output = tmp_path / "train.jsonl"
    options = ("--model", tiny_checkpoint, "--precision", "fp32", "--ranks", "1-3", "--margin", "0")
    result = command(questions, output, "--corpus", corpus, *options)
    assert result.exit_code == 0, result.output
    assert set(json.loads(output.read_text(encoding="utf-8"))["neg"]) <= set(CORPUS[2:])
    assert command(questions, output, "--ranks", "five").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--margin", 2), "'--margin': 2 is not at least 0 and below 1"),
        (("--margin", "nan"), "'--margin': nan is not at least"),
        (("--ranks", "5-2"), "--ranks '5-2' is not two ranks from 1 up"),
        (("--ranks", "0-2"), "--ranks '0-2' is not two ranks from 1 up"),
    ],
)
def test_the_command_names_its_options_not_the_functions_arguments(
    command: Callable[..., Any], tmp_path: Path, arguments: tuple[Any, ...], told: str
):
    questions = write_questions(tmp_path / "questions.jsonl", {"query": QUESTION, "pos": [POSITIVE]})
    result = command(questions, tmp_path / "train.jsonl", "--model", "no-such-model", *arguments)
    assert result.exit_code == 2
    assert told in result.output
