"""What the site's generator does to each page before it is Markdown for it: mkdocs.yml names this file as a hook.

Pages are written to be read in the repository as well, so their links lead to files. A link to a file that the site has
becomes one to its page there; of a link to any other file the text is left.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from chapters import DOCS, links, with_links
from translations import STAMP

# Where a page really lies: architecture.md is a link to the root's ARCHITECTURE.md.
NAMES = {file.resolve(): file.name for file in DOCS.iterdir()}


def on_page_markdown(markdown: str, *, page: Any, **_of_mkdocs: Any) -> str:
    """Leave out the stamp of a translation, and have links lead to where they do on the site."""
    if page.file.locale != page.file.locale_alternate_of:  # English, for want of a translation: found in English
        page.meta["search"] = {"exclude": True}
    folder = Path(page.file.abs_src_path).resolve().parent
    text = STAMP.sub("", markdown)
    return with_links(text, {link["to"]: led_to(link["to"], folder) for link in links(text)})


def led_to(to: str, folder: Path) -> str:
    """Return where a link from a page in `folder` leads on the site, "" if to a file that the site does not have."""
    if re.match(r"[a-z]+:|#", to):
        return to
    path, mark, anchor = to.partition("#")
    name = NAMES.get((folder / path).resolve(), "")
    return f"{name}{mark}{anchor}" if name else ""
