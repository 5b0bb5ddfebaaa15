"""An evaluation report as one HTML file that needs no other: figures with their intervals, and queries that are lost.

No script, nothing from elsewhere, and the same report makes the same page. Texts of queries and documents are cut.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files

from trivec.evaluation import losses
from trivec.evaluation.datasets import RetrievalDataset
from trivec.evaluation.html_labels import LABELS
from trivec.evaluation.losses import LostQuery, Passage
from trivec.evaluation.metrics import METRICS, Estimate
from trivec.evaluation.report import DatasetReport, Estimates, EvaluationReport
from trivec.evaluation.tables import SIGNIFICANT, figure
from trivec.support.html_text import shown

LANGUAGES = tuple(LABELS)

_METRIC = METRICS[0]
# Characters that are shown of a query or passage, and of a query in its one line.
_TEXT, _LINE = 500, 120
# Its style sheet is the one thing that the page may use, known by its digest; nothing may be loaded, run or sent.
_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""

Labels = Mapping[str, str]


def html_report(report: EvaluationReport, datasets: Sequence[RetrievalDataset], language: str = "en") -> str:
    """Return a page about an evaluation that needs no other file.

    Of each mode it shows at most 10 queries that another mode answers better, and of each of these at most 3 relevant
    passages and 3 others, 500 characters of each.

    Args:
        report: From `evaluate`.
        datasets: What was evaluated, in the same order: whence the texts come.
        language: Of the page, "en" or "ja".

    Returns:
        The page.

    Raises:
        ValueError: There is no such language, or the data sets are not those of the report.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r:.20} is not one of {', '.join(LANGUAGES)}")
    if [dataset.name for dataset in datasets] != [dataset.name for dataset in report.datasets]:
        raise ValueError("the data sets are not those of the report, in its order")
    labels = LABELS[language]
    css = "".join(
        files(package).joinpath(name).read_text(encoding="utf-8")
        for package, name in (("trivec.page", "page.css"), ("trivec.evaluation", "html_report.css"))
    )
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    heading = shown(labels["heading"].format(model=report.model))
    parts = [
        f"<header><h1>{heading}</h1></header>\n<main>",
        _facts(report, labels),
        *_figures(report, labels),
        *_losses(report, datasets, labels),
        "</main>",
    ]
    return _PAGE.format(
        language=language,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        title=heading,
        css=css,
        body="\n".join(parts),
    )


def _facts(report: EvaluationReport, labels: Labels) -> str:
    facts = {
        "model": report.model,
        "precision": report.precision,
        "max_length": labels["tokens"].format(count=report.max_length),
        "mcls": None if report.mcls is None else labels["tokens"].format(count=report.mcls),
        "weights": ", ".join(f"{weight:g}" for weight in report.fusion_weights),
        "candidates": f"{report.candidates:,}",
        "reranker": report.reranker,
        "baseline": report.baseline,
        "data": _size(report, labels),
    }
    rows = [
        f"<dt>{shown(labels[name])}</dt><dd>{_isolated(value)}</dd>\n"
        for name, value in facts.items()
        if value is not None
    ]
    return f'<dl class="facts">\n{"".join(rows)}</dl>'


def _size(report: EvaluationReport, labels: Labels) -> str:
    if len(report.datasets) == 1:
        return _size_of(report.datasets[0], labels)
    return labels["size"].format(
        datasets=len(report.datasets),
        queries=sum(one.queries for one in report.datasets),
        documents=sum(one.documents for one in report.datasets),
    )


def _size_of(dataset: DatasetReport, labels: Labels) -> str:
    return labels["one_size"].format(name=dataset.name, queries=dataset.queries, documents=dataset.documents)


def _figures(report: EvaluationReport, labels: Labels) -> Iterator[str]:
    several = len(report.datasets) > 1
    yield f"<h2>{labels['modes']}</h2>"
    if several:
        yield f"<p>{labels['mean'].format(count=len(report.datasets))}</p>"
    yield _by_metric(report.macro if several else report.datasets[0].estimates, report.baseline, labels)
    yield f'<p class="quiet">{labels["figures"]}'
    if report.baseline is not None:
        yield shown(labels["star"].format(baseline=report.baseline, level=SIGNIFICANT))
    yield "</p>"
    if several:
        yield f"<h2>{labels['by_dataset'].format(metric=_METRIC)}</h2>"
        yield _by_dataset(report, labels)
        for dataset in report.datasets:
            yield (
                f"<details><summary>{shown(labels['all_figures']).format(name=_isolated(dataset.name))}</summary>\n"
                f"{_by_metric(dataset.estimates, report.baseline, labels)}</details>"
            )


def _by_metric(estimates: Estimates, baseline: str | None, labels: Labels) -> str:
    rows = [
        (mode, [_cell(of_mode[metric], mode == baseline) for metric in METRICS]) for mode, of_mode in estimates.items()
    ]
    return _wide(_table([labels["mode"], *METRICS], rows), labels["modes"])


def _by_dataset(report: EvaluationReport, labels: Labels) -> str:
    rows = [
        (
            _isolated(one.name),
            [
                f"{one.queries:,}",
                f"{one.documents:,}",
                *(_cell(one.estimates[mode][_METRIC], mode == report.baseline) for mode in report.modes),
            ],
        )
        for one in report.datasets
    ]
    header = [labels["dataset"], labels["queries"], labels["documents"], *report.modes]
    return _wide(_table(header, rows), labels["by_dataset"].format(metric=_METRIC))


def _table(header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table of what is HTML already: each row has its name and its cells."""
    top = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n' for name, cells in rows
    )
    return f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table>"


def _wide(table: str, name: str) -> str:
    """A table that is wider than the window is scrolled by itself, also with the keyboard."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{name}">{table}</div>'


def _cell(value: Estimate, of_baseline: bool) -> str:
    p_value = ""
    if value.p_value is not None:
        p_value = f"<small>p {'&lt; 0.001' if value.p_value < 0.001 else f'= {value.p_value:.3f}'}</small>"
    return f"{figure(value)}{_bar(value, of_baseline)}{p_value}"


def _bar(value: Estimate, of_baseline: bool) -> str:
    line = ""
    if value.low is not None and value.high is not None:
        low, high = f"{100 * value.low:.1f}", f"{100 * value.high:.1f}"
        line = f'<path d="M{low} 5H{high}M{low} 1V9M{high} 1V9"/>'
    return (
        '<svg class="drawn" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="10"/>'
        f'<rect class="{"baseline" if of_baseline else "mean"}" width="{100 * value.mean:.1f}" height="10"/>'
        f"{line}</svg>"
    )


def _losses(report: EvaluationReport, datasets: Sequence[RetrievalDataset], labels: Labels) -> Iterator[str]:
    named = len(datasets) > 1
    sections = {}
    if len(report.modes) > 1:
        for mode in report.modes:
            sections[mode] = (
                _against_baseline(report, mode, labels),
                losses.lost_queries(report, datasets, mode),
                labels["nothing_lost"],
            )
    sections[labels["unanswered"]] = (
        labels["unanswered_said"].format(metric=_METRIC, mode=losses.best_mode(report)),
        losses.unanswered_queries(report, datasets),
        labels["all_answered"],
    )
    yield f"<h2>{labels['lost']}</h2>"
    if len(report.modes) > 1:
        yield f"<p>{labels['lost_said'].format(metric=_METRIC, count=losses.QUERIES_SHOWN)}</p>"
        links = "".join(f'<a href="#lost-{number}">{name}</a>' for number, name in enumerate(sections, start=1))
        yield f'<nav aria-label="{labels["lost"]}">{links}</nav>'
    for number, (name, (said, lost, nothing)) in enumerate(sections.items(), start=1):
        yield f'<section aria-labelledby="lost-{number}">\n<h3 id="lost-{number}">{name}</h3>'
        if said:
            yield f'<p class="quiet">{said}</p>'
        yield from (_lost(one, named, labels) for one in lost)
        if not lost:
            yield f"<p>{nothing}</p>"
        yield "</section>"


def _against_baseline(report: EvaluationReport, mode: str, labels: Labels) -> str:
    counts = losses.against_baseline(report, mode)
    if counts is None:
        return ""
    better, equal, worse = counts
    return labels["better"].format(baseline=report.baseline, better=better, equal=equal, worse=worse)


def _lost(lost: LostQuery, named: bool, labels: Labels) -> str:
    """One query, shut; `named` is whether its data set is to be told."""
    dataset = f' <span class="quiet">{_isolated(lost.dataset)}</span>' if named else ""
    figures = [
        (mode, [f"{100 * value:.1f}", _rank(lost.first_relevant[mode], labels)]) for mode, value in lost.figures.items()
    ]
    left_out = labels["left_out"].format(count=lost.relevant_left_out)
    parts = [
        f'<details class="lost"><summary><span class="loss">−{100 * lost.loss:.1f}</span> '
        f"<bdi>{shown(' '.join(lost.query.split()), _LINE, '')}</bdi>{dataset}</summary>",
        # The line above has all of a short query.
        _text(lost.query, labels) if len(lost.query) > _LINE else "",
        f"<h4>{labels['relevant']}</h4>",
        *(_passage(passage, lost.found, labels) for passage in lost.relevant),
        f'<p class="place">{left_out}</p>' if lost.relevant_left_out else "",
        f"<h4>{labels['wrong']}</h4>",
        *(_passage(passage, lost.found, labels) for passage in lost.wrong),
        "" if lost.wrong else f"<p>{labels['nothing_wrong']}</p>",
        _table([labels["mode"], _METRIC, labels["first_relevant"]], figures),
        "</details>",
    ]
    return "\n".join(part for part in parts if part)


def _rank(rank: int | None, labels: Labels) -> str:
    return labels["not_found"] if rank is None else f"{rank:,}"


def _passage(passage: Passage, found: int, labels: Labels) -> str:
    if passage.rank is None:
        place = labels["not_among"].format(count=found)
    else:
        place = labels["rank"].format(rank=passage.rank, score=passage.score)
    grade = labels["unjudged"] if passage.grade is None else labels["grade"].format(grade=passage.grade)
    return f'<p class="place">{_isolated(passage.id)} · {place} · {grade}</p>\n{_text(passage.text, labels)}'


def _text(text: str, labels: Labels) -> str:
    return f'<p class="text" dir="auto">{shown(text, _TEXT, labels["rest"])}</p>'


def _isolated(text: str) -> str:
    """A name or an id of somebody else's: whatever way it is written, what stands beside it stays in place."""
    return f"<bdi>{shown(text, _LINE, '')}</bdi>"
