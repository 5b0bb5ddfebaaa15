"""Imports are cheap, and the names people import are there."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"openvino", "torch", "transformers", "pymilvus", "scipy", "tokenizers", "huggingface_hub", "pandas", "pyarrow"}
HEAVY |= {"httpx2", "starlette"}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    return set(
        json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    )


def test_import_trivec_loads_nothing_heavy() -> None:
    assert modules_after("import trivec") & HEAVY == set()


def test_encoding_needs_neither_torch_nor_milvus() -> None:
    assert (
        modules_after("from trivec import AsyncM3Model, BGEM3EmbeddingFunction, M3Model")
        & {"torch", "transformers", "pymilvus", "httpx2", "starlette"}
        == set()
    )


def test_openvino_reports_no_usage() -> None:
    assert "openvino" in modules_after("import trivec.engines.openvino.engine")
    assert "openvino_telemetry" not in modules_after("import trivec.engines.openvino.engine")


def test_the_path_of_the_milvus_documentation_gives_our_class() -> None:
    code = "import trivec, pymilvus.model.hybrid as m; assert m.BGEM3EmbeddingFunction is trivec.BGEM3EmbeddingFunction"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_forms_of_the_api_reference_give_our_class() -> None:
    for code in (
        "from pymilvus import model; f = model.hybrid.BGEM3EmbeddingFunction",
        "import pymilvus.model; f = pymilvus.model.hybrid.BGEM3EmbeddingFunction",
        "import pymilvus.model.hybrid as m; f = m.BGEM3EmbeddingFunction",
    ):
        subprocess.run(
            [sys.executable, "-c", f"{code}; import trivec; assert f is trivec.BGEM3EmbeddingFunction"], check=True
        )


def test_models_that_trivec_has_not_name_pymilvus_model() -> None:
    code = "from pymilvus import model; model.dense"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert told.splitlines()[-1].startswith("AttributeError: module 'pymilvus.model' has no attribute 'dense'")
    assert "pymilvus-model" in told
