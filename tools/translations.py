"""Which Japanese chapters are older than their English ones, and what tells it: a stamp in the page's first line.

    <!-- of server.md as of 0123456789abcdef -->

The digits begin the SHA-256 of the English page, without the tables that benchmarks/publish.py writes into both.

    python tools/translations.py check                      # lists stale pages; fails if one does not say so itself
    python tools/translations.py stamp docs/server.ja.md    # this page says what the English one says now
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

from chapters import DOCS, english_of, is_japanese

STAMP = re.compile(r"\A<!-- of (?P<page>[\w.-]+) as of (?P<digits>[0-9a-f]{16}) -->\n")
# What a page whose English one went on shows its readers, until it is translated and stamped again.
OLDER = '!!! warning "この章は英語版より古い内容です。最新の内容は英語版をご覧ください。"'
_WRITTEN_INTO_BOTH = re.compile(r"(<!-- (figures|server): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)


def digits(english: str) -> str:
    """Return what the stamp says of an English page's text."""
    text = _WRITTEN_INTO_BOTH.sub(r"\1\3", english)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamped(japanese: str, english: Path) -> str:
    """Return a Japanese page's text with a new stamp, and without the words that it is older."""
    text = STAMP.sub("", japanese).replace(f"{OLDER}\n\n", "")
    return f"<!-- of {english.name} as of {digits(english.read_text(encoding='utf-8'))} -->\n{text}"


def fault(page: Path) -> str | None:
    """Say what is wrong with a Japanese page's stamp, or None; a page that is stale and shows it has no fault."""
    text, english = page.read_text(encoding="utf-8"), english_of(page)
    stamp = STAMP.match(text)
    if not stamp or stamp["page"] != english.name:
        return f"its first line is no stamp of {english.name}"
    shown = OLDER in text
    if stamp["digits"] == digits(english.read_text(encoding="utf-8")):
        return "says that it is older than the English page, which it is not" if shown else None
    return None if shown else f"older than {english.name}: translate what changed and stamp it, or put into it\n{OLDER}"


def is_stale(page: Path) -> bool:
    """Whether the English page has changed since a Japanese page was stamped."""
    return stamped(page.read_text(encoding="utf-8"), english_of(page)) != page.read_text(encoding="utf-8")


def main() -> int:
    """Read the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="list the pages that are older than their English ones")
    commands.add_parser("stamp", help="note that pages say what their English ones say now").add_argument(
        "pages", type=Path, nargs="+", help="docs/NAME.ja.md"
    )
    arguments = parser.parse_args()
    if arguments.command == "stamp":
        for page in arguments.pages:
            if not is_japanese(page):
                parser.error(f"{page} is no Japanese page: those are docs/NAME.ja.md")
            page.write_text(stamped(page.read_text(encoding="utf-8"), english_of(page)), encoding="utf-8")
        return 0
    faults = {page: fault(page) for page in sorted(DOCS.glob("*.ja.md"))}
    for page, found in faults.items():
        if found or is_stale(page):
            print(f"{page.name}: {found or 'older than the English page, and says so'}")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
