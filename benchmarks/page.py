"""The search page of `trivec serve` in headless Chromium: first paint, bytes sent, a search from Enter to results.

A collection of 20,000 documents (Milvus Lite, the bundled model, a server and a browser on this one machine). Needs
Debian's chromium and chromium-driver, and runs in the environment of `make integration` that has selenium:

    .venv-integration/bin/python benchmarks/page.py
    .venv-integration/bin/python benchmarks/page.py --documents 1000 --searches 20

Each load begins with an empty cache. First and largest contentful paint, layout shift and blocking time (of tasks over
50 ms, what is over) are what the browser itself reports; a search ends when its results are in the page.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from selenium import webdriver

import machine
import report
from shards import passages
from trivec import M3Model
from trivec.documents import Document
from trivec.milvus import M3Collection
from weights import BUILD

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from serving import serving

OBSERVE = """
window.seen = {shift: 0, blocked: 0, largest: 0};
new PerformanceObserver((l) => l.getEntries().forEach((e) => { if (!e.hadRecentInput) seen.shift += e.value; }))
  .observe({type: "layout-shift", buffered: true});
new PerformanceObserver((l) => l.getEntries().forEach((e) => { seen.blocked += Math.max(0, e.duration - 50); }))
  .observe({type: "longtask", buffered: true});
new PerformanceObserver((l) => l.getEntries().forEach((e) => { seen.largest = e.startTime; }))
  .observe({type: "largest-contentful-paint", buffered: true});
"""
LOADED = """
const done = arguments[arguments.length - 1];
const look = () => {
  const first = performance.getEntriesByName("first-contentful-paint")[0];
  if (!first || !document.querySelector("input[name=q]")) return setTimeout(look, 20);
  setTimeout(() => {
    const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    const own = all.filter((e) => !e.name.endsWith("/info"));
    done({first: first.startTime, ...seen, bytes: own.reduce((sum, e) => sum + e.transferSize, 0), files: own.length});
  }, 300);
};
look();
"""
SEARCHED = """
const [query, done] = arguments;
const field = document.querySelector("input[name=q]");
const results = document.querySelector("main > div");
const begun = performance.now();
new MutationObserver((_, observer) => {
  if (!results.querySelector(".hits")) return;
  observer.disconnect();
  requestAnimationFrame(() => done(performance.now() - begun));
}).observe(results, {childList: true});
field.value = query;
field.form.requestSubmit();
"""


@contextmanager
def chromium() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("needs Debian's package chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--lang=en"):
        options.add_argument(argument)
    os.environ.setdefault("SE_OFFLINE", "true")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    browser.set_script_timeout(60)
    try:
        yield browser
    finally:
        browser.quit()


def loads(browser: Any, address: str, count: int) -> dict[str, float]:
    """Medians of what the browser says of loading the page."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": OBSERVE})
    rounds = []
    for _ in range(count + 1):  # the first starts the browser's own processes
        browser.execute_cdp_cmd("Network.clearBrowserCache", {})
        browser.get(address)
        rounds.append(browser.execute_async_script(LOADED))
    of = {key: statistics.median(one[key] for one in rounds[1:]) for key in rounds[0]}
    return {
        "first_paint_ms": of["first"],
        "largest_paint_ms": of["largest"],
        "blocking_ms": of["blocked"],
        "layout_shift": of["shift"],
        "bytes": of["bytes"],
        "files": of["files"],
    }


def searches(browser: Any, queries: list[str]) -> dict[str, float]:
    """How long searches take in the page."""
    for query in queries[:5]:
        browser.execute_async_script(SEARCHED, query)
    seconds = [browser.execute_async_script(SEARCHED, query) for query in queries]
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "searches": float(len(seconds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument("--searches", type=int, default=50)
    options = parser.parse_args()
    here = machine.describe()
    corpus = list(passages(options.documents))
    queries = [" ".join(text.split()[:8]) for _, text in corpus[:: max(1, len(corpus) // options.searches)]]
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        uri = Path(folder) / "page.db"
        with M3Model.load("nano") as model, M3Collection("documents", model, uri) as collection:
            collection.add([Document(name, text) for name, text in corpus], show_progress=False)
        found: dict[str, Any] = {}
        with serving("nano", "--uri", str(uri), "--collection", "documents") as served:
            found["load"] = loads(browser, f"{served.url}/?lang=en", options.loads)
            for mode in ("hybrid", "dense", "sparse"):
                browser.get(f"{served.url}/?lang=en&mode={mode}")
                browser.execute_async_script(LOADED)
                found[mode] = searches(browser, queries[: options.searches])
    result = {"benchmark": "page", "machine": here, "documents": options.documents, **found}
    report.finish(result, found, BUILD / "page.json")


if __name__ == "__main__":
    main()
