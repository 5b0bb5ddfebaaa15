"""The documentation, as text: every chapter is there in Japanese, as new as in English, and every link leads somewhere.

What can be said of the built site alone is in tests/test_site_build.py.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import chapters
import translations
from chapters import COMMENT, DOCS, FENCED, ROOT, english_of, headings, is_japanese, japanese_of, links

ENGLISH = chapters.english_pages()
JAPANESE = [page for page in map(japanese_of, ENGLISH) if page.exists()]
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.glob("*.md")) if not page.is_symlink())]
PAGES += [page.resolve() for page in sorted(DOCS.glob("*.md")) if page.is_symlink()]
# What has names for users to import; the rest of trivec is for those who change it.
PUBLIC = ("", "documents", "milvus", "evaluation", "shards")
PUBLIC += ("integrations.langchain", "integrations.llama_index", "integrations.haystack")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return page.name


def test_every_chapter_is_there_in_both_languages():
    there = {page.name for page in DOCS.glob("*.ja.md")}
    assert there == {japanese_of(page).name for page in ENGLISH}


def test_every_chapter_is_in_the_navigation():
    entries = re.findall(r"^ +- .*: (\S+\.md)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(entries) == sorted([*(page.name for page in ENGLISH), *(f"{n}.md" for n in chapters.UNTRANSLATED)])


def test_every_entry_of_the_navigation_is_in_japanese():
    nav, _, rest = text_of(ROOT / "mkdocs.yml").partition("\ntheme:")
    titles = set(re.findall(r"^ +- (.+?):", nav.partition("\nnav:")[2], re.MULTILINE))
    translated = dict(re.findall(r"^ {12}(\S.*?): (.+)$", rest.partition("nav_translations:")[2], re.MULTILINE))
    same = {"Milvus", "LangChain, LlamaIndex, Haystack", "Python API"}
    assert titles - same <= set(translated)


@pytest.mark.parametrize("page", JAPANESE, ids=name)
def test_no_chapter_is_older_than_its_english_one_without_saying_so(page: Path):
    assert translations.fault(page) is None


@pytest.mark.parametrize("page", JAPANESE, ids=name)
def test_a_translation_is_of_the_whole_chapter(page: Path):
    """A page that says that it is older is held to what it was translated from when it is translated again."""
    japanese, english = text_of(page), text_of(english_of(page))
    if translations.OLDER in japanese:
        pytest.skip(f"{page.name} is older than the English page, and says so")
    japanese = translations.STAMP.sub("", japanese)
    assert FENCED.findall(japanese) == FENCED.findall(english)
    assert COMMENT.findall(japanese) == COMMENT.findall(english)
    assert sorted(link["to"] for link in links(japanese)) == sorted(link["to"] for link in links(english))
    assert re.findall(r"^:::.*", japanese, re.MULTILINE) == re.findall(r"^:::.*", english, re.MULTILINE)
    assert rows_of_tables(japanese) == rows_of_tables(english)
    assert shape(japanese) == shape(english)


def rows_of_tables(text: str) -> list[int]:
    """How many columns each row has."""
    rows = re.findall(r"^\|.*\|$", FENCED.sub("", text), re.MULTILINE)
    return [len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) for row in rows]


def shape(text: str) -> list[tuple[int, str]]:
    """Level and id of each heading. The page's own is linked to by the page's name."""
    return [(heading.level, "" if heading.level == 1 else heading.anchor) for heading in headings(text)]


def test_tables_of_figures_are_the_same_in_both_languages():
    between = re.compile(r"<!-- (figures|server): begin -->.*?<!-- \1: end -->", re.DOTALL)
    pages = (text_of(DOCS / name) for name in ("performance.md", "performance.ja.md"))
    english, japanese = ([found[0] for found in between.finditer(page)] for page in pages)
    assert len(english) == 2
    assert english == japanese


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path):
    faults = []
    for link in links(text_of(page)):
        path, _, anchor = link["to"].partition("#")
        if re.match(r"https?:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            faults.append(f"{link['to']}: no such file")
            continue
        # A Japanese page's link is to the English file, and leads on the site to the Japanese page.
        targets = [target]
        if is_japanese(page) and target.parent == DOCS and japanese_of(target).exists():
            targets.append(japanese_of(target))
        for found in targets if anchor else []:
            if anchor not in {heading.anchor for heading in headings(text_of(found))}:
                faults.append(f"{link['to']}: no such heading in {found.name}")
            if not is_japanese(found) and anchor not in {heading.on_browsers for heading in headings(text_of(found))}:
                faults.append(f"{link['to']}: no such heading in {found.name} as repository browsers number them")
    assert faults == []


def test_the_reference_lists_every_public_name():
    listed = re.findall(r"^::: trivec\.(\S+)$", text_of(DOCS / "api.md"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    for module in PUBLIC:
        source = ROOT / "src" / "trivec" / Path(*module.split("."), "__init__.py")
        public = {f"{module}.{public}".lstrip(".") for public in exported(source) if public != "__version__"}
        # Errors are listed once, where they are defined.
        missing = {public for public in public - set(listed) if f"errors.{public.rpartition('.')[2]}" not in listed}
        assert missing == set()
    errors = ast.parse(text_of(ROOT / "src" / "trivec" / "errors.py")).body
    assert {f"errors.{node.name}" for node in errors if isinstance(node, ast.ClassDef)} <= set(listed)


def exported(source: Path) -> list[str]:
    """`__all__` of a module, read without importing what its extra brings."""
    for node in ast.parse(text_of(source)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{source} has no __all__")


def test_the_reference_lists_what_examples_import():
    listed = re.findall(r"^::: (trivec\.\S+)$", text_of(DOCS / "api.md"), re.MULTILINE)
    imported = re.compile(r"^ *from (trivec[\w.]*) import (?:\(([^)]*)\)|(.*?)(?: +#.*)?)$", re.MULTILINE)
    used = {
        f"{module}.{one.strip()}"
        for page in PAGES
        for code in FENCED.findall(text_of(page))
        for module, several, line in imported.findall(code)
        for one in (several or line).split(",")
        if one.strip()
    }
    assert len(used) > 20
    assert used - set(listed) == set()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the tool and one chapter in both languages, freshly stamped."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "docs").mkdir()
    for module in (chapters, translations):
        shutil.copy(module.__file__, tmp_path / "tools")
    (tmp_path / "docs" / "gpu.md").write_text("# GPUs\n\nOne fact.\n", encoding="utf-8")
    (tmp_path / "docs" / "gpu.ja.md").write_text("# GPU { #gpus }\n\n事実。\n", encoding="utf-8")
    assert tool("stamp", tmp_path, "docs/gpu.ja.md") == (0, "")
    return tmp_path


def tool(command: str, folder: Path, *arguments: str) -> tuple[int, str]:
    run = [sys.executable, "tools/translations.py", command, *arguments]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_chapter_is_stale_when_the_english_one_changes_and_fresh_when_stamped_again(copied: Path):
    page, english = copied / "docs" / "gpu.ja.md", copied / "docs" / "gpu.md"
    assert tool("check", copied) == (0, "")
    assert re.match(r"<!-- of gpu\.md as of [0-9a-f]{16} -->\n# GPU ", text_of(page))
    english.write_text("# GPUs\n\nOne fact. Another.\n", encoding="utf-8")
    status, told = tool("check", copied)
    assert status == 1
    assert told.startswith("gpu.ja.md: older than gpu.md")
    # As it told to.
    page.write_text(text_of(page).replace("事実。", f"{translations.OLDER}\n\n事実。"), encoding="utf-8")
    assert tool("check", copied) == (0, "gpu.ja.md: older than the English page, and says so\n")
    tool("stamp", copied, "docs/gpu.ja.md")
    assert tool("check", copied) == (0, "")
    assert translations.OLDER not in text_of(page)


def test_a_page_without_a_stamp_or_with_that_of_another_page_is_told(copied: Path):
    page = copied / "docs" / "gpu.ja.md"
    stamped = text_of(page)
    for wrong in (stamped.partition("\n")[2], stamped.replace("of gpu.md", "of cli.md")):
        page.write_text(wrong, encoding="utf-8")
        assert tool("check", copied) == (1, "gpu.ja.md: its first line is no stamp of gpu.md\n")


def test_a_page_that_wrongly_says_that_it_is_older_is_told(copied: Path):
    page = copied / "docs" / "gpu.ja.md"
    page.write_text(f"{text_of(page)}\n{translations.OLDER}\n\nまた事実。\n", encoding="utf-8")
    status, told = tool("check", copied)
    assert status == 1
    assert "which it is not" in told


def test_new_figures_in_both_languages_make_no_chapter_stale(copied: Path):
    for page, heading in (("gpu.md", "# GPUs"), ("gpu.ja.md", "# GPU { #gpus }")):
        table = "<!-- figures: begin -->\n{}<!-- figures: end -->\n"
        (copied / "docs" / page).write_text(f"{heading}\n\n{table.format('| 1 |')}", encoding="utf-8")
    tool("stamp", copied, "docs/gpu.ja.md")
    for page in ("gpu.md", "gpu.ja.md"):
        path = copied / "docs" / page
        path.write_text(text_of(path).replace("| 1 |", "| 2 |"), encoding="utf-8")
    assert tool("check", copied) == (0, "")


def test_only_japanese_pages_are_stamped(copied: Path):
    before = text_of(copied / "docs" / "gpu.md")
    status, told = tool("stamp", copied, "docs/gpu.md")
    assert status == 2
    assert "docs/gpu.md is no Japanese page" in told
    assert text_of(copied / "docs" / "gpu.md") == before


def test_links_and_headings_are_read_as_they_are_shown():
    page = (
        "# A `b`\n\n```sh\n# no [link](x.md)\n```\n\n`[no](y.md)` but [`[yes]`\nit is](z.md#a) ![p](p.svg)\n\n"
        "## C: d, e\n\n## C: d, e\n"
    )
    assert [link["to"] for link in links(page)] == ["z.md#a", "p.svg"]
    assert [heading.anchor for heading in headings(page)] == ["a-b", "c-d-e", "c-d-e_1"]
    assert [heading.on_browsers for heading in headings(page)] == ["a-b", "c-d-e", "c-d-e-1"]
    assert chapters.with_links(page, {"z.md#a": "", "p.svg": "q.svg"}) == page.replace(
        "[`[yes]`\nit is](z.md#a)", "`[yes]`\nit is"
    ).replace("(p.svg)", "(q.svg)")
    assert [heading.anchor for heading in headings("## 見出し { #a-heading }\n")] == ["a-heading"]
