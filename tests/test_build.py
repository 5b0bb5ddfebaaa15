"""The kernels are compiled where that is possible, and the package is whole where it is not."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
needs_linux_on_x86 = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="there are no kernels for this machine"
)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """hatch_build.py, made to work on a copy of the sources."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sources = Path(shutil.copytree(module.SOURCES, tmp_path / "native", ignore=shutil.ignore_patterns("*.so")))
    monkeypatch.setattr(module, "SOURCES", sources)
    monkeypatch.setattr(module, "LIBRARY", sources / "libtrivec.so")
    monkeypatch.delenv("CC", raising=False)
    return module


@needs_linux_on_x86
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_the_sources_compile_without_a_warning(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-Werror"))
    assert build.compile_kernels() is None
    assert build.LIBRARY.stat().st_size > 10_000
    assert [path.name for path in build.SOURCES.glob("*.so*")] == ["libtrivec.so"]


@needs_linux_on_x86
def test_a_compiler_that_fails_is_told_and_changes_nothing(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    build.LIBRARY.write_text("the one before")
    monkeypatch.setenv("CC", f"{sys.executable} -c 'import sys; sys.exit(\"no such target\")'")
    assert "failed: no such target" in build.compile_kernels()
    assert build.LIBRARY.read_text() == "the one before"


@needs_linux_on_x86
def test_no_compiler_is_told_with_the_remedy(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "there is no C compiler (Debian, Ubuntu: apt install gcc)" in build.compile_kernels()
    assert not build.LIBRARY.exists()
