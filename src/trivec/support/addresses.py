"""Which names of models are addresses of servers."""

from __future__ import annotations

from pathlib import Path


def is_url(name: str | Path) -> bool:
    """Whether a name is the URL of a server rather than a folder or a hub id.

    >>> is_url("http://127.0.0.1:8080"), is_url("BAAI/bge-m3")
    (True, False)
    """
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))
