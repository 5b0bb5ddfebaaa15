"""The two archives that are published, built as pip builds them, and environments with trivec and one extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As `make` installs: at the versions listed for this Python, where there is a list.
LISTED = ROOT / "constraints" / f"dev-{sys.version_info.major}.{sys.version_info.minor}.txt"
CONSTRAINTS = {"PIP_CONSTRAINT": str(LISTED), "PIP_BUILD_CONSTRAINT": str(LISTED)} if LISTED.is_file() else {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pip(*arguments: str | Path, compiler: str | None = None) -> str:
    """Run pip, perhaps with another C compiler, and return what it prints."""
    environment = os.environ | CONSTRAINTS | ({} if compiler is None else {"CC": compiler})
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Installed:
    """An environment of its own.

    Attributes:
        bin: The folder of its programs.
        work: An empty folder, in which they are run.
    """

    bin: Path
    work: Path

    def run(self, program: str, *arguments: str | Path, status: int = 0) -> str:
        """Run a program, which must end with a status; return what it prints, or where it fails says to stderr."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [self.bin / program, *arguments]
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, built where there is no compiler."""
    folder = tmp_path_factory.mktemp("sdist")
    pip("install", "--target", folder / "hatchling", "hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder]
    environment = {name: value for name, value in os.environ.items() if name != "CC"}
    environment |= {"PATH": "", "PYTHONPATH": str(folder / "hatchling")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of the source archive on this machine."""
    return wheel_of(sdist, tmp_path_factory.mktemp("wheel"))


def wheel_of(sdist: Path, folder: Path, compiler: str | None = None) -> Path:
    """Build a wheel of the source archive in an environment of pip's."""
    pip("wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", folder, sdist, compiler=compiler)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def install(wheel: Path, tmp_path: Path) -> Iterator[Callable[[str], Installed]]:
    """Makes an environment with trivec and the packages of an extra, of none for "", that agree with each other.

    It is deleted after the test: each takes 0.5 to 0.9 GB.
    """
    folder = tmp_path / "environment"

    def make(extra: str) -> Installed:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = ("--python", folder / "bin" / "python")
        pip(*python, "install", "--quiet", "--no-compile", f"{wheel}[{extra}]" if extra else wheel)
        assert "No broken requirements found" in pip(*python, "check")
        (tmp_path / "work").mkdir()
        return Installed(folder / "bin", tmp_path / "work")

    yield make
    shutil.rmtree(folder, ignore_errors=True)
