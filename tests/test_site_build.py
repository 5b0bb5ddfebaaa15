"""The built site: the same bytes every time, in both languages, nothing from another host, and no link that ends nowhere.

Run by `make docs`, in an environment that has the generator and not trivec: the API reference is read, not imported.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from chapters import DOCS, ROOT, english_pages

pytestmark = [
    pytest.mark.docs,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs mkdocs, in an environment that `make docs` makes"),
]
# Elements by which a page has a browser fetch something, and the attribute that says what.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data", "use": "href"}
CHAPTERS = [page.stem for page in english_pages()]


class Page(HTMLParser):
    """What a page fetches, links to and is linked to by, and the text of its paragraphs and headings."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.languages: dict[str, str] = {}
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {key: value or "" for key, value in attrs}
        self.ids |= {of[key] for key in ("id", "name") if key in of}
        self.classes |= set(of.get("class", "").split())
        if tag == "a" and "href" in of:
            self.links.append(of["href"])
            if "hreflang" in of:
                self.languages[of["hreflang"]] = of["href"]
        if tag in FETCHED and FETCHED[tag] in of:
            self.fetched.append(of[FETCHED[tag]])
        if tag == "link" and of.get("rel") not in ("next", "prev", "alternate", "canonical"):
            self.fetched.append(of["href"])
        if tag in ("p", "h1", "h2", "h3", "h4", "li", "td"):
            self._inside.append(tag)
            self.text.append("")
        if tag == "code":
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] != "code":
            self.text[-1] += data


def build(folder: Path, seed: int) -> Path:
    """The site as `make docs` builds it, with another order of Python's sets each time."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": "0", "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"), 1)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def test_a_second_build_is_the_same(site: Path, tmp_path: Path):
    again = build(tmp_path / "again", 2)
    there = [path.relative_to(site) for path in sorted(site.rglob("*")) if path.is_file()]
    assert there == [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file()]
    _, differ, unread = filecmp.cmpfiles(site, again, there, shallow=False)
    assert (differ, unread) == ([], [])


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_is_built_in_both_languages_and_they_lead_to_each_other(
    chapter: str, site: Path, pages: dict[Path, Page]
):
    english, japanese = site / f"{chapter}.html", site / "ja" / f"{chapter}.html"
    for here, there, language in ((english, japanese, "ja"), (japanese, english, "en")):
        assert (here.parent / pages[here].languages[language]).resolve() == there
    assert '<html lang="en"' in english.read_text(encoding="utf-8")
    assert '<html lang="ja"' in japanese.read_text(encoding="utf-8")


def test_nothing_is_fetched_from_another_host(site: Path, pages: dict[Path, Page]):
    found = {(file.name, url) for file, page in pages.items() for url in page.fetched if urlsplit(url).netloc}
    for style in site.rglob("*.css"):
        found |= {(style.name, url) for url in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", style.read_text())}
    assert found == set()
    # The theme's script would fetch what draws diagrams.
    assert [file for file, page in pages.items() if "mermaid" in page.classes] == []


def test_every_link_and_everything_fetched_is_there(site: Path, pages: dict[Path, Page]):
    faults = []
    for file, page in pages.items():
        for to in [*page.links, *page.fetched]:
            url = urlsplit(to)
            if url.scheme or url.netloc:
                continue
            base = site if url.path.startswith("/") else file.parent
            target = (base / unquote(url.path).lstrip("/")).resolve() if url.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                faults.append(f"{file.relative_to(site)}: {to}")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                faults.append(f"{file.relative_to(site)}: {to}: no such place")
    assert faults == []


def test_no_markup_is_left_as_text(site: Path, pages: dict[Path, Page]):
    """A list, table, note or id that Markdown did not take for one, as it wants an empty line before."""
    left = re.compile(r"^(?:- |\* |\d+\. |\|.*\||!!! |::: |#+ )|\{ ?#[\w-]+ ?\}|^```|\]\(\S+\)", re.MULTILINE)
    found = [
        (str(file.relative_to(site)), found[0], text[:80])
        for file, page in pages.items()
        for text in page.text
        if (found := left.search(text))
    ]
    assert found == []


def test_the_stamp_of_a_translation_is_not_in_its_page(site: Path):
    assert [file for file in (site / "ja").glob("*.html") if "<!-- of " in file.read_text(encoding="utf-8")] == []


def test_the_reference_shows_every_object_in_both_languages(site: Path, pages: dict[Path, Page]):
    listed = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    for folder in (site, site / "ja"):
        assert set(listed) - pages[folder / "api.html"].ids == set()
    # With the code of their examples as code.
    text = (site / "api.html").read_text(encoding="utf-8")
    assert "doctest" not in text
    assert "<blockquote>" not in text


def test_both_languages_are_searched(site: Path):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert index["config"]["lang"] == ["en", "ja"]
    words = {True: "チェックポイント", False: "checkpoint"}
    for in_japanese, word in words.items():
        entries = [entry for entry in index["docs"] if entry["location"].startswith("ja/") is in_japanese]
        assert any(word in entry["text"] for entry in entries)
    # What finds words in Japanese text comes with the theme.
    assert list(site.glob("assets/javascripts/lunr/tinysegmenter*.js"))
    assert list(site.glob("assets/javascripts/lunr/**/lunr.ja*.js"))
