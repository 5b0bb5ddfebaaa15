"""`trivec eval --html`: nano on two languages, written as a page; and what is told before any work."""

from __future__ import annotations

import json

import pytest

from parsed_page import parsed

pytest.importorskip("ir_measures", reason="needs the extra eval")
pytest.importorskip("bm25s", reason="needs the extra eval")

ROWS = [
    ("en", "When was the bridge built?", "The bridge was opened in 1932."),
    ("en", "Who walked on the Moon?", "Two men set foot on Earth's satellite in 1969 <script>alert(1)</script>."),
    ("en", "What does a cat drink?", "Pets are given milk and water."),
    ("ar", "متى بني الجسر؟", "افتتح الجسر في عام 1932."),
    ("ar", "من مشى على القمر؟", "وطئت أقدام رجلين القمر عام 1969."),
]


@pytest.fixture
def pairs(tmp_path):
    lines = [json.dumps({"query": query, "pos": [text], "lang": language}) for language, query, text in ROWS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return "pairs.jsonl"


def test_a_page_stands_beside_the_other_outputs(trivec_command, tmp_path, pairs):
    outputs = ["--html", "report.html", "--json", "figures.json", "--markdown", "tables.md"]
    code, _, err = trivec_command("eval", "nano", pairs, *outputs, "--milvus", "fp16")
    assert code == 0, err
    page = parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    overall, by_dataset, *_ = page.all("table")
    means = {row.all("th")[0].text: row.all("td")[0].text for row in overall.all("tr")[1:]}
    assert "all (Milvus)" in means
    for mode, shown in means.items():
        assert shown.startswith(f"{100 * figures['macro_average'][mode]['nDCG@10']['mean']:.1f} ±")
    assert [row.all("th")[0].text for row in by_dataset.all("tr")[1:]] == ["pairs/ar", "pairs/en"]
    assert {*means} < {one.text for one in page.all("h3")}
    assert not page.all("script")
    assert not list(tmp_path.glob(".report.html*"))


def test_a_page_in_japanese_takes_the_place_of_another(trivec_command, tmp_path, pairs):
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    options = ["--mode", "dense", "--mode", "bm25-words", "--language", "ja"]
    code, _, err = trivec_command("eval", "nano", pairs, "--html", "report.html", *options)
    assert code == 0, err
    assert 'lang="ja"' in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--html", "nowhere/report.html"], "there is no folder nowhere"),
        (["--html", "report.pdf"], "must end in .html"),
        (["--html", "folder.html"], "is a directory"),
        (["--language", "ja"], "give --html"),
    ],
)
def test_a_page_that_cannot_be_is_told_before_the_work(trivec_command, tmp_path, pairs, options, said):
    (tmp_path / "folder.html").mkdir()
    code, _, err = trivec_command("eval", "no-such-model", pairs, *options)
    assert code == 2
    assert said in " ".join(err.replace("\u2502", "").split())
