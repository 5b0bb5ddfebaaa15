"""What is published: a source archive that builds anywhere, and a wheel that holds all of trivec and nothing else."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from installation.conftest import ROOT, wheel_of

LIBRARY = "trivec/engines/native/libtrivec.so"


def packaged() -> set[str]:
    """What a wheel must hold: all below src/trivec but what is only there to be compiled, or was."""
    files = (path for path in (ROOT / "src" / "trivec").rglob("*") if path.is_file())
    left_out = {".c", ".h", ".so", ".pyc"}
    return {path.relative_to(ROOT / "src").as_posix() for path in files if path.suffix not in left_out}


def held(wheel: Path) -> set[str]:
    """What a wheel holds besides its metadata."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    return {name for name in names if not PurePosixPath(name).parts[0].endswith(".dist-info")}


def test_the_source_archive_holds_what_git_does(sdist: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone, to know what belongs to the project")
    with tarfile.open(sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    known = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    kept = subprocess.run(known, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    there = {name for name in kept if (ROOT / name).is_file()}
    assert there - names == set()
    assert names - there <= {"PKG-INFO", ".git"}  # the latter is a file in a worktree of git's


def test_the_wheel_is_whole(wheel: Path) -> None:
    there = held(wheel)
    assert there - {LIBRARY} == packaged() | {"trivec.pth"}
    # What nobody would miss before a user does.
    for name in ("py.typed", "page/index.html", "page/page.js", "data/nano/model.safetensors", "data/published.json"):
        assert f"trivec/{name}" in there


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="there are no kernels for this machine"
)
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_kernels_are_in_the_wheel_where_they_compile(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    assert LIBRARY in held(wheel)
    without = wheel_of(sdist, tmp_path, compiler="false")
    assert without.name.endswith("-py3-none-any.whl")
    assert held(without) == held(wheel) - {LIBRARY}
