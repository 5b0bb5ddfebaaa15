"""The page of an evaluation: its figures, the queries that are lost, and texts that would like to be more than text."""

from __future__ import annotations

import base64
import hashlib
import re
import string
from collections.abc import Sequence

import numpy as np
import pytest

from parsed_page import Element, parsed
from trivec import M3Model
from trivec.evaluation import EvaluationReport, EvaluationSettings, RetrievalDataset, evaluate, html_report
from trivec.evaluation.html_labels import LABELS
from trivec.evaluation.metrics import METRICS

pytest.importorskip("ir_measures", reason="needs the extra eval")
pytest.importorskip("bm25s", reason="needs the extra eval")

NUMBERS = [f"{number}{number + 3}{2 * number}" for number in range(11, 41)]
DOCUMENTS = {f"d{number}": f"The parcel {number} is kept in room {room}." for room, number in enumerate(NUMBERS)}
QUERIES = {f"q{number}": f"Where is the parcel {number}?" for number in NUMBERS}
QRELS = {f"q{number}": {f"d{number}": 1} for number in NUMBERS}
PARCELS = RetrievalDataset("parcels", DOCUMENTS, QUERIES, QRELS)
SAME = RetrievalDataset("same", DOCUMENTS, QUERIES, QRELS)
SETTINGS = EvaluationSettings(candidates=12, use_cache=False)


@pytest.fixture(scope="module")
def report(tiny_model: M3Model) -> EvaluationReport:
    """Two data sets of the same texts, by a model that knows nothing."""
    return evaluate(tiny_model, [PARCELS, SAME], SETTINGS, baseline="bm25-words")


@pytest.fixture(scope="module")
def page(report: EvaluationReport) -> Element:
    return parsed(html_report(report, [PARCELS, SAME]))


def section(page: Element, heading: str) -> Element:
    found = [one for one in page.all("section") if one.all("h3")[0].text == heading]
    assert len(found) == 1
    return found[0]


def rows(table: Element) -> list[list[str]]:
    return [[cell.text for cell in row.elements if cell.name in ("th", "td")] for row in table.all("tr")]


def losses(report: EvaluationReport, mode: str) -> list[float]:
    """By how much the best other mode is better, of every query at which one is."""
    found: list[float] = []
    for dataset in report.datasets:
        own = dataset.per_query[mode]["nDCG@10"]
        others = [dataset.per_query[other]["nDCG@10"] for other in report.modes if other != mode]
        found += [float(loss) for loss in np.max(others, axis=0) - own if loss > 0]
    return sorted(found, reverse=True)


def test_what_was_measured_is_told(page: Element, report: EvaluationReport) -> None:
    names, values = ([one.text for one in page.all(name)] for name in ("dt", "dd"))
    told = dict(zip(names, values, strict=True))
    assert told["Model"] == report.model
    assert told["Precision"] == "fp32"
    assert told["Baseline"] == "bm25-words"
    assert told["Data"] == "2 data sets, 60 queries, 60 documents"
    assert "Reranker" not in told


def test_every_figure_stands_there_with_its_interval_drawn(page: Element, report: EvaluationReport) -> None:
    overall, by_dataset, first, *_ = page.all("table")
    assert rows(overall)[0] == ["Mode", *METRICS]
    for table, estimates in ((overall, report.macro), (first, report.datasets[0].estimates)):
        for row, (mode, by_metric) in zip(table.all("tr")[1:], estimates.items(), strict=True):
            assert row.all("th")[0].text == mode
            for cell, value in zip(row.all("td"), by_metric.values(), strict=True):
                half = 50 * (value.high - value.low)
                assert cell.text.startswith(f"{100 * value.mean:.1f} ±{half:.1f}")
                assert float(cell.all("rect")[1].attributes["width"]) == pytest.approx(100 * value.mean, abs=0.05)
                low, high = re.match(r"M(\S+) 5H([\d.]+)", cell.all("path")[0].attributes["d"]).groups()
                assert (float(low), float(high)) == pytest.approx((100 * value.low, 100 * value.high), abs=0.051)
    dense = report.datasets[0].estimates["dense"]["nDCG@10"]
    assert dense.p_value < 0.001
    assert rows(first)[1][1].endswith("*p < 0.001")
    assert rows(by_dataset)[0] == ["Data set", "Queries", "Documents", *report.modes]
    assert [row[:3] for row in rows(by_dataset)[1:]] == [["parcels", "30", "30"], ["same", "30", "30"]]


def test_each_mode_shows_its_largest_losses_and_data_sets_take_turns(page: Element, report: EvaluationReport) -> None:
    for mode in report.modes:
        expected = losses(report, mode)[:10]
        shown = section(page, mode).all("details")
        assert [one.all("span", "loss")[0].text for one in shown] == [f"−{100 * loss:.1f}" for loss in expected]
    dense = section(page, "dense").all("details")
    assert len(dense) == 10
    assert [one.all("summary")[0].all("bdi")[1].text for one in dense] == ["parcels", "same"] * 5


def test_counts_against_the_baseline_cover_every_query(page: Element, report: EvaluationReport) -> None:
    said = section(page, "dense").all("p", "quiet")[0].text
    better, equal, worse = map(int, re.findall(r" at (\d+)", said))
    assert better + equal + worse == 60
    own, other = (report.datasets[0].per_query[mode]["nDCG@10"] for mode in ("dense", "bm25-words"))
    assert worse == 2 * int((own < other).sum())
    assert not section(page, "bm25-words").all("p", "quiet")


def test_an_opened_query_shows_what_was_wanted_and_what_stood_before_it(
    page: Element, report: EvaluationReport
) -> None:
    for mode in ("dense", "multi-vector"):
        for one in section(page, mode).all("details"):
            query = next(key for key, text in QUERIES.items() if text == one.all("bdi")[0].text)
            run = report.datasets[0].runs[mode]
            ranking = run.rankings()[query]
            score = dict(run.of_query(run.query_ids.index(query)))
            wanted = f"d{query[1:]}"
            wrong = [document for document in ranking if document != wanted][:3]
            places = [
                f"{document} · rank {ranking.index(document) + 1}, score {score[document]:.4f}"
                if document in ranking
                else f"{document} · not among the 12 found"
                for document in (wanted, *wrong)
            ]
            grades = ["grade 1", "not judged", "not judged", "not judged"]
            said = [one.text for one in one.all("p", "place")]
            assert said == [f"{place} · {grade}" for place, grade in zip(places, grades, strict=True)]
            assert [one.text for one in one.all("p", "text")] == [DOCUMENTS[document] for document in (wanted, *wrong)]
            by_mode = {row[0]: row[2] for row in rows(one.all("table")[0])[1:]}
            assert by_mode[mode] == (str(ranking.index(wanted) + 1) if wanted in ranking else "not found")
            assert by_mode["bm25-words"] == "1"


def test_nothing_is_open_or_needs_a_script_or_another_file(report: EvaluationReport) -> None:
    text = html_report(report, [PARCELS, SAME])
    page = parsed(text)
    assert not any("open" in one.attributes for one in page.all("details"))
    assert {one.name for one in page.elements}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "form", "input"}
    )
    targets = {one.attributes.get("id") for one in page.elements}
    for one in page.elements:
        assert {"src", "style", "srcset"}.isdisjoint(one.attributes)
        assert not any(name.startswith("on") for name in one.attributes)
        assert one.attributes.get("href", "#lost-1")[1:] in targets
    css = page.all("style")[0].text
    assert "url(" not in css
    assert "@import" not in css
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = next(one.attributes["content"] for one in page.all("meta") if "http-equiv" in one.attributes)
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "prefers-color-scheme: dark" in css
    assert text == html_report(report, [PARCELS, SAME])


HOSTILE = "</p></details><script>alert(1)</script><img src=x onerror=alert(1)> &lt;b&gt; \u202eover\u2066 \x1b[2J"


def test_texts_are_text_whatever_they_hold(tiny_model: M3Model) -> None:
    long = "A long story. " * 80_000
    documents = {f"{HOSTILE}{number}": f"{text} {HOSTILE}\x00" for number, text in enumerate(["cat", "dog", "bird"])}
    documents |= {"long": long} | DOCUMENTS
    queries = {HOSTILE: f"Where is {HOSTILE}\x00?", "story": "something else"} | QUERIES
    qrels = {HOSTILE: {f"{HOSTILE}0": 1}, "story": {"long": 1}} | QRELS
    settings = EvaluationSettings(candidates=12, use_cache=False, max_length=64)
    datasets = [RetrievalDataset(f"{number}\udcff{HOSTILE}", documents, queries, qrels) for number in (1, 2)]
    with pytest.warns(UserWarning, match="max_length=64"):
        report = evaluate(tiny_model, datasets, settings, modes=["dense", "bm25-words"])
    text = html_report(report, datasets)
    page = parsed(text)  # elements close in their order: no text closed one
    assert {one.name for one in page.elements}.isdisjoint({"script", "img", "b"})
    assert "<script>alert(1)</script><img src=x onerror=alert(1)> &lt;b&gt; \ufffdover\ufffd" in page.text
    assert not re.search("[\x00\x1b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert f"({len(long) - 500:,} more characters)" in page.text
    assert len(text.encode()) < 200_000


def test_one_mode_has_no_other_to_lose_against(tiny_model: M3Model) -> None:
    report = evaluate(tiny_model, [PARCELS], SETTINGS, modes=["dense"])
    page = parsed(html_report(report, [PARCELS]))
    assert [one.text for one in page.all("h3")] == ["Answered badly by every mode"]
    shortfall = sorted(1 - report.datasets[0].per_query["dense"]["nDCG@10"], reverse=True)
    assert [one.text for one in page.all("span", "loss")] == [f"−{100 * loss:.1f}" for loss in shortfall[:10]]
    assert "parcels: 30 queries, 30 documents" in page.text
    assert not page.all("nav")


def test_more_relevant_passages_than_are_shown_are_counted(tiny_model: M3Model) -> None:
    grades = {f"d{number}": 1 + (place == 4) for place, number in enumerate(NUMBERS[:5])}
    dataset = RetrievalDataset("many", DOCUMENTS, {"q": "Where are parcels?"}, {"q": grades | {f"d{NUMBERS[5]}": 0}})
    report = evaluate(tiny_model, [dataset], SETTINGS, modes=["dense"])
    details = parsed(html_report(report, [dataset])).all("details")
    said = [one.text for one in details[0].all("p", "place")]
    assert said[0].startswith(f"d{NUMBERS[4]} · ")
    assert said[0].endswith(" · grade 2")
    assert said[3] == "Relevant passages not shown: 2"
    assert len(said) == 3 + 1 + 3


def test_a_page_speaks_one_language(report: EvaluationReport) -> None:
    page = parsed(html_report(report, [PARCELS, SAME], "ja"))
    assert page.all("html")[0].attributes["lang"] == "ja"
    assert section(page, LABELS["ja"]["unanswered"])
    english = {word for word in LABELS["en"].values() if "{" not in word and " " in word}
    assert not [word for word in english if word in page.text]
    assert LABELS["en"].keys() == LABELS["ja"].keys()
    for name, said in LABELS["en"].items():
        assert fields(said) == fields(LABELS["ja"][name]), name


def fields(said: str) -> set[tuple[str | None, str | None]]:
    return {(name, form) for _, name, form, _ in string.Formatter().parse(said) if name}


@pytest.mark.parametrize("datasets", [[SAME, PARCELS], [PARCELS], []])
def test_other_data_sets_are_refused(report: EvaluationReport, datasets: Sequence[RetrievalDataset]) -> None:
    with pytest.raises(ValueError, match="not those of the report"):
        html_report(report, datasets)


def test_a_language_that_there_is_not_is_refused(report: EvaluationReport) -> None:
    with pytest.raises(ValueError, match="'fr' is not one of en, ja"):
        html_report(report, [PARCELS, SAME], "fr")
