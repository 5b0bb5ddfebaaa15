"""`from pymilvus.model.hybrid import BGEM3EmbeddingFunction` in real environments, with and without pymilvus.

And `from pymilvus.model.reranker import BGERerankFunction`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RERANKER = "from pymilvus.model.reranker import BGERerankFunction as f; print(f.__module__)"
WHOSE = "from pymilvus.model.hybrid import BGEM3EmbeddingFunction as f; print(f.__module__)"
# The forms of Milvus' API reference, which name no submodule.
BY_ATTRIBUTE = {
    "from": "from pymilvus import model; f = model.hybrid.BGEM3EmbeddingFunction; print(f.__module__)",
    "import": "import pymilvus.model; f = pymilvus.model.hybrid.BGEM3EmbeddingFunction; print(f.__module__)",
}
OURS, THEIRS = "trivec.embedding_function", "pymilvus.model.hybrid.bge_m3"
OUR_RERANKER, THEIR_RERANKER = "trivec.reranking.rerank_function", "pymilvus.model.reranker.bgereranker"
# What each side imports on the way to the class, and no more: the packages themselves come without their dependencies.
PYMILVUS = ["pymilvus==3.0.2"]
PYMILVUS_MODEL = ["--no-deps", "pymilvus.model==0.3.4"]
ITS_IMPORTS = ["requests", "scipy", "onnxruntime", "transformers", "protobuf"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    return next(folder.glob("trivec-*.whl"))


class Environment:
    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"

    def install(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", "install", "-q", *arguments], check=True)

    def whose(self, first_on_path: str = "") -> str:
        """Return the module of the class that every form of importing it gives."""
        environment = {**os.environ, "PYTHONPATH": first_on_path}
        found = set()
        for code in (WHOSE, *BY_ATTRIBUTE.values()):
            done = subprocess.run(
                [self.python, "-c", code], capture_output=True, text=True, check=False, env=environment
            )
            assert done.returncode == 0, done.stderr
            found.add(done.stdout.strip())
        (module,) = found
        return module

    def whose_reranker(self) -> str:
        """Return the module of the class of that name."""
        done = subprocess.run([self.python, "-c", RERANKER], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def compat_folder(self) -> str:
        code = "import trivec, pathlib; print(pathlib.Path(trivec.__file__).parent / '_compat')"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(params=["wheel", "editable"])
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Environment:
    environment = Environment(tmp_path / "venv")
    if request.param == "wheel":
        environment.install(str(wheel))
    else:
        environment.install("-e", str(ROOT))
    return environment


def test_without_pymilvus_and_with_it_the_class_is_ours(environment: Environment) -> None:
    assert environment.whose() == OURS
    environment.install(*PYMILVUS)
    assert environment.whose() == OURS
    assert environment.whose_reranker() == OUR_RERANKER


def test_an_installed_pymilvus_model_keeps_its_own(environment: Environment) -> None:
    environment.install(*PYMILVUS, *ITS_IMPORTS)
    environment.install(*PYMILVUS_MODEL)
    assert environment.whose() == THEIRS
    assert environment.whose_reranker() == THEIR_RERANKER
    # Also where trivec's folder comes first, as in an environment on top of another that has pymilvus-model.
    assert environment.whose(environment.compat_folder()) == THEIRS
