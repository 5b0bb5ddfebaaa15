"""How the documentation is read: its chapters, and what stands in a page besides prose: code, headings, links.

A chapter is `docs/X.md` in English and `docs/X.ja.md` in Japanese; `docs/architecture.md` and `docs/changelog.md` are
links to the files at the root. Knows Markdown as far as these pages use it, and nothing of what makes a site of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# A record of what happened, not a chapter: it stays English.
UNTRANSLATED = {"changelog"}

FENCED = re.compile(r"^```.*\n(?:.*\n)*?```$", re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# The text of a link may hold code, and code may hold brackets.
LINK = re.compile(r"!?\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\((?P<to>[^()\s]+)\)")
_CODE_OR_LINK = re.compile(rf"{FENCED.pattern}|{LINK.pattern}|`[^`\n]+`", re.MULTILINE)
_HEADING = re.compile(r"^(?P<marks>#{1,6}) (?P<text>.+?)(?: \{ *#(?P<id>[\w-]+) *\})?$", re.MULTILINE)


@dataclass(frozen=True)
class Heading:
    """A heading and where a link to it leads.

    Attributes:
        level: 1 for the page's own.
        text: What it says, as written.
        anchor: Its id on the site.
        on_browsers: Its id where the repository is looked at, which numbers doubles another way.
    """

    level: int
    text: str
    anchor: str
    on_browsers: str


def english_pages() -> list[Path]:
    """Return the English page of every chapter that there must be in Japanese too."""
    pages = (page for page in sorted(DOCS.glob("*.md")) if not is_japanese(page))
    return [page for page in pages if page.stem not in UNTRANSLATED]


def japanese_of(english: Path) -> Path:
    """Return where the Japanese page of a chapter lies."""
    return english.with_name(f"{english.stem}.ja.md")


def english_of(japanese: Path) -> Path:
    """Return where the English page of a chapter lies."""
    return japanese.with_name(f"{japanese.name.removesuffix('.ja.md')}.md")


def is_japanese(page: Path) -> bool:
    """Tell a chapter's Japanese page from its English one."""
    return page.name.endswith(".ja.md")


def links(text: str) -> Iterator[re.Match[str]]:
    """Yield the links of a page, those that stand in code left out."""
    return (found for found in _CODE_OR_LINK.finditer(text) if found["to"])


def with_links(text: str, replaced: dict[str, str]) -> str:
    """Return a page whose links are as `replaced` says by their targets; a target "" leaves their text alone."""

    def link(found: re.Match[str]) -> str:
        to = replaced.get(found["to"]) if found["to"] else None
        if to is None:
            return found[0]
        return found[0].replace(f"]({found['to']})", f"]({to})") if to else found["text"]

    return _CODE_OR_LINK.sub(link, text)


def headings(text: str) -> list[Heading]:
    """Return the headings of a page, in its order."""
    found, seen, seen_on_browsers = [], Counter[str](), Counter[str]()
    for heading in _HEADING.finditer(FENCED.sub("", text)):
        said = LINK.sub(lambda link: link["text"], heading["text"])
        slug = heading["id"] or site_slug(said)
        anchor = f"{slug}_{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1
        shown = browser_slug(said)
        on_browsers = f"{shown}-{seen_on_browsers[shown]}" if seen_on_browsers[shown] else shown
        seen_on_browsers[shown] += 1
        found.append(Heading(len(heading["marks"]), heading["text"], anchor, on_browsers))
    return found


def site_slug(heading: str) -> str:
    """Return the id that Python-Markdown gives a heading."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def browser_slug(heading: str) -> str:
    """Return the id that repository browsers give a heading."""
    return re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-")
