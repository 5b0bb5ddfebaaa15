"""Every code block of README.md and docs/*.md runs by itself, in a folder of its own.

`BAAI/bge-m3` is replaced by `nano` in all of them. Beside the block, the folder holds what a reader brings: a model and
files of the names in `readers_files`; a block that asks a server finds it at `SERVER`. A block that cannot run here has
a comment before it, which the rendered page does not show: `<!-- not run: REASON -->`, or
`<!-- run by make integration -->` if that runs it. Left out are docs/performance.md, whose blocks are benchmarks, which
take hours; docs/api.md, which the site fills from docstrings; files of the root, which docs/ links to for the site; and
Japanese pages, whose blocks tests/test_site.py holds to be the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

import pytest

from chapters import english_pages
from serving import Served, serving

ROOT = Path(__file__).parents[1]
CHAPTERS = [page for page in english_pages() if page.name not in ("performance.md", "api.md") and not page.is_symlink()]
PAGES = [ROOT / "README.md", *CHAPTERS]
FENCED = re.compile(
    r"^(?:<!-- (?:not run: (?P<why>.+)|run by (?P<elsewhere>make integration)(?:: [\w-]+)?) -->\n)?"
    r"```(?P<language>.*)\n(?P<code>(?:.*\n)*?)```$",
    re.MULTILINE,
)
RUNS = {"python": [sys.executable], "sh": ["bash", "-eu"]}
SERVER = "http://127.0.0.1:8080"
# What a block needs that `pip install '.[dev]'` does not bring.
NEEDS_TORCH = re.compile(r"trivec train|trivec\.training")


@dataclass(frozen=True)
class Block:
    """A code block: where it is, in which language, why it is not run (None if it is), and what runs it if not this."""

    page: Path
    line: int
    language: str
    code: str
    why_not: str | None
    elsewhere: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}{'-train' if NEEDS_TORCH.search(self.code) else ''}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, *found.group("language", "code", "why", "elsewhere"))
        for found in FENCED.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.language in RUNS and not (block.why_not or block.elsewhere)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_fenced_and_in_a_language_that_is_run_or_data(page: Path):
    text = page.read_text(encoding="utf-8")
    assert {block.language for block in blocks_of(page)} <= {*RUNS, "json"}
    prose = FENCED.sub("", text)
    assert "```" not in prose
    assert "<!-- not run" not in prose, "the comment must stand on the line before its block"
    assert "<!-- run by" not in prose, "the comment must stand on the line before its block"
    assert [line for line in prose.splitlines() if re.match(r" {4,}\S", line)] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=str)
def test_json_is_json(block: Block):
    assert json.loads(block.code)


def test_few_blocks_are_not_run():
    left_out = [block for block in BLOCKS if block.why_not is not None]
    assert len(left_out) < len(RUN)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.why_not or block.elsewhere], ids=str)
def test_blocks_that_are_not_run_here_are_at_least_code(block: Block):
    if block.language == "python":
        assert compile(block.code, str(block), "exec")
    else:
        done = subprocess.run(["bash", "-n"], input=block.code, text=True, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_examples_in_python_and_in_the_shell_do_not_share_a_database():
    for page in PAGES:
        used = {
            language: {name for block in blocks_of(page) if block.language == language for name in databases(block)}
            for language in RUNS
        }
        assert used["python"] & used["sh"] == set()


def databases(block: Block) -> list[str]:
    return re.findall(r"[\w./-]+\.db\b", block.code)


@pytest.fixture
def readers_files(tmp_path: Path) -> Path:
    """A folder with a model and files such as a reader has."""
    with as_file(files("trivec") / "data" / "nano") as nano:
        shutil.copytree(nano, tmp_path / "my-model")
    for name, subject in (
        ("pairs", "bridge"),
        ("held_out", "tower"),
        ("questions", "castle"),
        ("test", "church"),
        ("dev", "harbour"),
    ):
        rows = [
            {"query": f"When was the {subject} in {place} built?", "pos": [f"The {subject} in {place} is of {year}."]}
            for year, place in enumerate(("York", "Bern", "Lund", "Pisa"), start=1700)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    passages = [{"id": str(i), "text": f"The wall around town {i} is old."} for i in range(8)]
    (tmp_path / "passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of nano with a collection of two notes."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "notes").mkdir()
    (folder / "notes" / "bridge.txt").write_text("The bridge over the river was built in 1723.", encoding="utf-8")
    (folder / "notes" / "tower.txt").write_text("The tower is of stone.", encoding="utf-8")
    collection = ["--uri", str(folder / "milvus.db"), "--collection", "notes"]
    index = [sys.executable, "-m", "trivec", "index", "notes", "-m", "nano", *collection]
    subprocess.run(index, cwd=folder, check=True, capture_output=True)
    with serving("nano", *collection) as served:
        yield served


def test_every_route_of_the_server_is_shown():
    from trivec.server.app import ROUTES  # the environment of `make parity` has no server

    shown = {
        re.sub(r"^/documents/.*", "/documents/{id}", path)
        for block in blocks_of(ROOT / "docs" / "server.md")
        for path in re.findall(rf"curl -sf {SERVER}(\S+)", block.code)
    }
    assert shown == set(ROUTES) - {"/page/{id}"}  # which only the page asks for


@pytest.mark.parametrize("block", [b for b in RUN if f"curl -sf {SERVER}" in b.code], ids=str)
def test_the_server_answers_what_is_shown(block: Block, server: Served):
    for line in block.code.splitlines():
        assert line.startswith("curl ")
        command = ["bash", "-eu", "-c", line.replace(SERVER, server.url)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.startswith("# HELP") if line.endswith("/metrics") else json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in RUN if SERVER not in b.code], ids=str)
def test_the_block_runs(block: Block, readers_files: Path, tmp_path_factory: pytest.TempPathFactory):
    if NEEDS_TORCH.search(block.code) and find_spec("torch") is None:
        pytest.skip("needs torch: pip install 'trivec[train]'")
    script = tmp_path_factory.mktemp("block") / "block"
    script.write_text(block.code.replace("BAAI/bge-m3", "nano"), encoding="utf-8")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        [*RUNS[block.language], str(script)],
        cwd=readers_files,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
