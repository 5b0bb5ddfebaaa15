"""Draws the search page for the documentation: docs/page-*.png, from the demo's documents and a real browser.

Needs Debian's chromium, chromium-driver, fonts-noto-core and fonts-noto-cjk; runs in the environment of
`make integration`:

    .venv-integration/bin/python tools/page_pictures.py
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from selenium import webdriver

from trivec import M3Model
from trivec.documents import Document
from trivec.milvus import M3Collection

ROOT = Path(__file__).parents[1]
QUERY = "When is the spring tide highest?"
SIZE = "1000,640"


def until(found: Callable[[], Any]) -> Any:
    """Wait for something to be in the page."""
    for _ in range(200):
        if there := found():
            return there
        time.sleep(0.05)
    raise SystemExit("the page did not come to that within 10 s")


def main() -> None:
    """Draw them all."""
    sys.path.append(str(ROOT / "tests"))
    from serving import serving

    os.environ.setdefault("SE_OFFLINE", "true")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("needs Debian's package chromium")
    for argument in ("--headless=new", "--no-sandbox", f"--window-size={SIZE}", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))

    def find(selector: str) -> list[Any]:
        return browser.find_elements("css selector", selector)

    def draw(name: str) -> None:
        browser.save_screenshot(str(ROOT / "docs" / f"page-{name}.png"))

    with tempfile.TemporaryDirectory() as name:
        uri = Path(name) / "demo.db"
        lines = (files("trivec") / "data" / "demo" / "documents.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        # Without the path that indexing a file would note: it is nobody's business.
        documents = [Document(row.pop("id"), row.pop("text"), row) for row in rows]
        with M3Model.load("nano") as model, M3Collection("demo", model, uri) as collection:
            collection.add(documents)
        with serving("nano", "--uri", str(uri), "--collection", "demo") as served:

            def visit(**state: str) -> None:
                browser.get(f"{served.url}/?{urlencode({'q': QUERY, 'lang': 'en', **state})}")
                until(lambda: find(".hit"))

            visit()
            draw("search")
            visit(lang="ja", q="大熊猫每天吃多少竹子？")
            draw("search.ja")
            visit(limit="1")
            find(".hit button")[0].click()
            word = until(lambda: [word for word in find(".picture button.word") if word.text == "tide"])[0]
            browser.execute_script("arguments[0].focus(); window.scrollTo(0, 330)", word)
            until(lambda: find(".picture .word.near"))
            draw("why")
            visit(view="compare", mode="dense", other="sparse")
            until(lambda: len(find(".columns section")) == 2)
            draw("compare")
    browser.quit()


if __name__ == "__main__":
    main()
