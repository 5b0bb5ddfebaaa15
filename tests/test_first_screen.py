"""The README's first screen answers what a newcomer asks, and what follows it is short.

The first screen is everything before the first `## `, counted in lines of the file, blank ones included. In a section
every line counts that a reader reads: text, rows of tables, code. Its heading, blank lines, comments and the fences
around code do not.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chapters import DOCS, ROOT, is_japanese, links

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN, *SECTIONS = re.split(r"^## ", README, flags=re.MULTILINE)
MOST_LINES_OF_THE_FIRST_SCREEN = 60
MOST_LINES_OF_A_SECTION = 12
# What a newcomer asks, and how a line begins that answers it.
QUESTIONS = {
    "What is it?": "**trivec computes BGE-M3's dense, sparse and token vectors on a CPU, without torch,",
    "Is it for me?": "It is for those who use BGE-M3 with Milvus",
    "Which system, which Python, a GPU, a server?": "with Python 3.10 or newer. It needs neither a GPU",
    "How do I install it?": 'pip install ".[milvus]"',
    "What do I write, and what comes out?": 'print(vectors["dense"][0].shape, vectors["sparse"].shape)  # (1024,)',
    "What is downloaded, and can I do without?": 'The first use downloads the model, 2.3 GB. With `"nano"`',
    "I come from the Milvus page: what must I change?": "**Do you come from the Milvus page about BGE-M3?** Its code",
    "Are the vectors the same as FlagEmbedding's?": "**Are the vectors the same?** In float32",
    "How fast is it, and how large?": "| trivec, float32 |",
    "Where do I read on?": "| [Quickstart](docs/quickstart.md) |",
}
HOME = DOCS / "index.md"
CHAPTERS = [page for page in sorted(DOCS.glob("*.md")) if page != HOME and not is_japanese(page)]


def linked(page: Path) -> set[Path]:
    """The files that a page links to; that each is there, test_site says."""
    targets = (link["to"].partition("#")[0] for link in links(page.read_text(encoding="utf-8")))
    return {(page.parent / target).resolve() for target in targets}


def lines_read(section: str) -> list[str]:
    return [line for line in section.splitlines()[1:] if line.strip() and not line.startswith(("```", "<!--"))]


def test_newcomers_ask_ten_questions():
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_first_screen_answers(question: str):
    answers = [line for line in FIRST_SCREEN.splitlines() if line.startswith(QUESTIONS[question])]
    assert len(answers) == 1


def test_the_first_screen_is_a_screen():
    assert len(FIRST_SCREEN.splitlines()) <= MOST_LINES_OF_THE_FIRST_SCREEN


def test_the_first_screen_compares_with_what_one_would_use_instead():
    table = FIRST_SCREEN.split("<!-- first-screen table -->")[1].split("<!-- end of first-screen table -->")[0]
    for peer in ("trivec, float32", "pymilvus-model + FlagEmbedding", "bge-m3-lite"):
        assert f"| {peer}" in table


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_a_section_is_short(section: str):
    assert len(lines_read(section)) <= MOST_LINES_OF_A_SECTION


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_every_chapter_can_be_reached(chapter: Path):
    assert chapter.resolve() in linked(ROOT / "README.md") | linked(HOME)
