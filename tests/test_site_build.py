"""The built site: the same bytes every time, both languages, nothing from another host, no link that ends nowhere.

Run by `make docs`, in an environment that has the generator and not trivec: the API reference is read, not imported.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import pytest

from chapters import DOCS, ROOT, english_pages

pytestmark = [
    pytest.mark.docs,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs mkdocs, in an environment that `make docs` makes"),
]
# Elements by which a page has a browser fetch something, and the attribute that says what.
FETCHED = dict.fromkeys(("script", "img", "iframe", "source", "video"), "src") | {"object": "data", "use": "href"}
CHAPTERS = [page.stem for page in english_pages()]
RESULTS = "return [...document.querySelectorAll('.md-search-result__item > a')].map(a => a.href)"


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, *_: Any) -> None:
        pass


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
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": "0", "NO_MKDOCS_2_WARNING": "1", "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
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
    by_style = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)")
    for style in site.rglob("*.css"):
        found |= {(style.name, url) for url in by_style.findall(style.read_text(encoding="utf-8"))}
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


@pytest.fixture(scope="module")
def found(site: Path) -> Iterator[Callable[[str, str], list[str]]]:
    """Search on a page in a browser, and return the pages that are found first."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: run `make docs`")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    os.environ.setdefault("SE_OFFLINE", "true")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def search(page: str, words: str) -> list[str]:
        browser.get(f"http://127.0.0.1:{server.server_port}/{page}?{urlencode({'q': words})}")
        end = time.monotonic() + 60
        while not (links := browser.execute_script(RESULTS)):
            assert time.monotonic() < end, f"nothing found for {words}"
            time.sleep(0.1)
        return [urlsplit(link).path.lstrip("/") for link in links]

    yield search
    browser.quit()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("page", "words", "wanted"),
    [
        ("index.html", "hybrid search", "milvus.html"),
        ("index.html", "checkpoint", "architecture.html"),
        ("ja/index.html", "疎ベクトル", "ja/server.html"),
        ("ja/index.html", "チェックポイント", "ja/cache.html"),
        ("ja/index.html", "一括インポート", "ja/bulk.html"),
        ("ja/index.html", "数値精度", "ja/precision.html"),
        ("ja/index.html", "長い文書", "ja/milvus.html"),
    ],
)
def test_words_are_found(found: Callable[[str, str], list[str]], page: str, words: str, wanted: str):
    results = found(page, words)
    assert wanted in results
    assert results[0].startswith("ja/") is wanted.startswith("ja/")
