"""/openapi.json is true: schemathesis sends what it allows and what it forbids to every route of the real server.

schemathesis is installed in an environment of its own. What depends on the model (the size of vectors and of the
vocabulary, the longest text) stands in /info, not in the description, and is put in here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

REQUIREMENT = "schemathesis==4.32.5"


@pytest.fixture(scope="module")
def schemathesis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment = tmp_path_factory.mktemp("schemathesis")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
    subprocess.run(pip, check=True)
    return environment / "bin" / "schemathesis"


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def of_this_model(description: Any, info: dict[str, Any]) -> Any:
    """The description with the limits that the model sets."""
    if isinstance(description, list):
        return [of_this_model(item, info) for item in description]
    if not isinstance(description, dict):
        return description
    found = {key: of_this_model(value, info) for key, value in description.items()}
    ids: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": info["dim"]["sparse"] - 1}
    one_list = {"type": "array", "items": ids}
    for name, schema in (
        ("dimensions", {"enum": [info["dim"]["dense"], None]}),
        ("max_length", {"type": ["integer", "null"], "minimum": 2, "maximum": info["max_length"]}),
        ("ids", {"anyOf": [{**one_list, "minItems": 1}, {"type": "array", "items": one_list, "minItems": 1}]}),
    ):
        if name in found.get("properties", {}):
            found["properties"][name] = schema
    if "cross-encoder" in found.get("enum", []):  # of which this server has none
        found["enum"] = [mode for mode in found["enum"] if mode != "cross-encoder"]
    return found


def test_the_description_is_true(url: str, schemathesis: Path, tmp_path: Path):
    description = of_this_model(fetched(f"{url}/openapi.json"), fetched(f"{url}/info")["trivec"])
    for path in ("/search", "/documents/{id}"):  # they need a collection, and an id that is in it
        del description["paths"][path]
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(description), encoding="utf-8")
    command = [str(schemathesis), "run", str(file), "--url", url, "--checks", "all", "--phases", "coverage,fuzzing"]
    options = ["--max-examples", "15", "--seed", "1", "--continue-on-failure", "--no-color"]
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert "Tested: 23" in done.stdout
