"""`trivec.integrations` without the frameworks: what is missing is named. `make integration` tests them with these."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import pytest

from trivec.errors import MissingPackageError


@pytest.mark.parametrize(
    ("name", "framework", "package"),
    [
        ("langchain", "langchain_core", "langchain-core"),
        ("llama_index", "llama_index", "llama-index-core"),
        ("haystack", "haystack", "haystack-ai"),
    ],
)
def test_a_missing_framework_is_named(name: str, framework: str, package: str):
    if find_spec(framework) is not None:
        pytest.skip(f"{package} is here")
    with pytest.raises(MissingPackageError, match=f"trivec.integrations.{name} needs: run `pip install {package}`"):
        importlib.import_module(f"trivec.integrations.{name}")
