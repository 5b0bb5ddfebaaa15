"""A Ray cluster of two nodes and an object store, both on this machine. Run by `make integration`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs Ray: run `make integration`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
