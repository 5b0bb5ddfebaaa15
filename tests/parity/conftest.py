"""Parity tests: the same checkpoint and texts through FlagEmbedding and through trivec. Run by `make parity`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("FlagEmbedding", reason="needs FlagEmbedding and torch: run `make parity`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.parity)
