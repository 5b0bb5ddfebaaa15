"""The search page in a real browser: the real server, a real collection, and documents that mean harm."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from serving import Served, serving
from trivec import M3Model
from trivec.documents import Document
from trivec.documents.reading import read_documents
from trivec.milvus import M3Collection, index_documents

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: run `make integration`")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Debian's packages chromium and chromium-driver"
)

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
HOSTILE = [
    Document("script", "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'> bamboo"),
    Document("terminal", "\x1b[31mred\x1b[0m \x1b]0;title\x07 bamboo"),
    Document("override", "\u202ereversed\u202c bamboo \u2066isolated\u2069"),
    Document("<b>id</b>", "bamboo with a name", {"<i>key</i>": "<u>value</u>"}),
    Document("long", "bamboo " * 9_000),
]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "demo.db"
    with M3Model.load("nano", precision="fp32") as model, M3Collection("demo", model, path) as collection:
        demo = files("trivec").joinpath("data/demo/documents.jsonl")
        index_documents(collection, read_documents([Path(str(demo))]), show_progress=False)
        collection.add(HOSTILE, show_progress=False)
    return path


@pytest.fixture(scope="module")
def server(uri: Path) -> Iterator[Served]:
    with serving("nano", "--precision", "fp32", "--uri", str(uri), "--collection", "demo") as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--lang=en"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ.setdefault("SE_OFFLINE", "true")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser: Any, server: Served) -> Callable[..., Any]:
    """Open the page with a state in its address."""

    def opened(**state: str) -> Any:
        browser.get(f"{server.url}/?{urlencode({'lang': 'en', **state})}")
        until(lambda: find(browser, "nav a"))
        return browser

    return opened


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that within 60 s"
        time.sleep(0.05)
    return found


def find(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def ids(browser: Any) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('.hit h3')].map((e) => e.textContent)")


def bars_of_the_first(browser: Any) -> list[str]:
    return [bar.get_attribute("class") for bar in find(browser, ".hit:first-child .bar span")]


def picture(browser: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(PICTURES / f"{name}.png"))


def test_results_come_as_one_types(visit: Callable[..., Any]) -> None:
    browser = visit()
    (field,) = find(browser, "input[name=q]")
    field.send_keys("When is the spring tide highest?")
    until(lambda: ids(browser)[:1] == ["tides-en#1"])
    (first, *_) = find(browser, ".hit")
    marked = {mark.text.lower() for mark in first.find_elements("css selector", "mark")}
    assert {"spring", "tide", "highest"} <= marked
    assert "Tides" in first.text
    bars = browser.execute_script(
        "return [...document.querySelectorAll('.hit:first-child .bar span')].map(e => e.className)"
    )
    assert bars == ["fused", "dense", "sparse"]
    picture(browser, "search")
    assert "spring+tide" in browser.current_url


def test_an_address_brings_a_search_back(visit: Callable[..., Any]) -> None:
    state = {"q": "panda", "mode": "dense", "rerank": "colbert", "limit": "3", "filter": 'language == "zh"'}
    browser = visit(**state)
    until(lambda: len(ids(browser)) == 3)
    for name in ("q", "mode", "rerank", "limit", "filter"):
        assert find(browser, f"[name={name}]")[0].get_attribute("value") == state[name]
    bars = browser.execute_script(
        "return [...document.querySelectorAll('.hit:first-child .bar span')].map(e => e.className)"
    )
    assert bars == ["fused", "dense", "colbert"]
    assert all("language:\nzh" in hit.text or "language: zh" in hit.text for hit in find(browser, ".hit"))


def test_a_word_of_the_query_lights_up_what_it_matched(visit: Callable[..., Any]) -> None:
    browser = visit(q="When is the spring tide highest?")
    until(lambda: ids(browser))
    (why, *_) = find(browser, ".hit button")
    why.click()
    until(lambda: find(browser, ".picture button.word"))
    words = {word.text: word for word in find(browser, ".picture button.word")}
    browser.execute_script("arguments[0].focus()", words["tide"])  # as with the keyboard
    near = until(lambda: [word.text for word in find(browser, ".picture .word.near")])
    assert "tide" in near
    assert re.match(r"tide [01]\.\d\d, ", find(browser, ".picture p[aria-live]")[0].text)
    picture(browser, "why")
    webdriver.ActionChains(browser).move_to_element(words["highest"]).perform()
    until(lambda: "highest" in [word.text for word in find(browser, ".picture .word.near")])


def test_two_modes_side_by_side(visit: Callable[..., Any]) -> None:
    browser = visit(view="compare", q="When is the spring tide highest?", mode="dense", other="sparse")
    until(lambda: len(find(browser, ".columns section")) == 2)
    changes = [change.text for change in find(browser, ".change")]
    assert "the same rank on the other side" in changes
    assert any("not found" in change or "▲" in change or "▼" in change for change in changes)
    picture(browser, "compare")


def test_documents_are_text_whatever_they_hold(visit: Callable[..., Any]) -> None:
    browser = visit(q="bamboo", mode="sparse", limit="50")
    until(lambda: {"script", "terminal", "override", "<b>id</b>", "long"} <= set(ids(browser)))
    assert browser.execute_script("return window.harmed") is None
    assert find(browser, ".hit script, .hit img, .hit b, .hit i, .hit u") == []
    shown = browser.execute_script("return [...document.querySelectorAll('.hit')].map((e) => e.textContent).join()")
    assert "<script>window.harmed = 1</script>" in shown
    assert "<i>key</i>:<u>value</u>" in shown
    (long,) = [hit for hit in find(browser, ".hit") if hit.find_element("css selector", "h3").text == "long"]
    assert len(long.text) < 2_000
    long.find_element("css selector", "button").click()
    until(lambda: len(long.text) > 50_000)
    picture(browser, "hostile")


def test_two_texts_without_a_collection(browser: Any) -> None:
    with serving("nano", "--precision", "fp32") as served:
        browser.get(f"{served.url}/?lang=en")
        first = until(lambda: find(browser, "textarea[name=q]"))[0]
        first.send_keys("where was Turing born?")
        find(browser, "textarea[name=second]")[0].send_keys("Alan Turing was born in London.")
        until(lambda: "London" in [word.text for word in find(browser, "span.word")])
        rows = browser.execute_script("return [...document.querySelectorAll('.bars > span')].map((e) => e.textContent)")
        assert rows[::2] == ["token vectors", "sparse", "dense", "sparse + dense", "all three"]
        picture(browser, "texts")


def test_japanese_and_back(visit: Callable[..., Any]) -> None:
    browser = visit(q="大熊猫每天吃多少竹子？", lang="ja")
    until(lambda: ids(browser))
    assert find(browser, "nav a")[0].text == "検索"
    assert browser.execute_script("return document.documentElement.lang") == "ja"
    picture(browser, "japanese")
    find(browser, "#language")[0].click()
    until(lambda: find(browser, "nav a")[0].text == "Search")


def test_a_guarded_server_asks_for_its_key(uri: Path, browser: Any) -> None:
    with serving("nano", "--precision", "fp32", "--api-key", "secret") as served:
        browser.get(f"{served.url}/?lang=en&q=bridge")
        field = until(lambda: find(browser, "input[name=key]"))[0]
        field.send_keys("secret\n")
        until(lambda: find(browser, "span.word"))
        assert "secret" not in browser.current_url


def test_it_fits_a_phone_and_has_no_outside_host(visit: Callable[..., Any]) -> None:
    browser = visit(q="panda")
    browser.set_window_size(500, 800)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        until(lambda: ids(browser))
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        picture(browser, "phone")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.set_window_size(1000, 900)
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert asked
    assert all(address.startswith(browser.current_url.partition("?")[0]) for address in asked)
    refused = [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]
    assert refused == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["search", "compare", "texts"])
def test_it_is_accessible(visit: Callable[..., Any], view: str, scheme: str) -> None:
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser = visit(view=view, q="When is the spring tide highest?", second="The tide is highest in spring.")
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    if view == "search":
        until(lambda: find(browser, ".hit button"))[0].click()
    until(lambda: find(browser, ".picture" if view != "compare" else ".hit"))
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    picture(browser, f"{view}-{scheme}")
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]] == []
