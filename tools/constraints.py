"""Writes constraints/NAME-3.N.txt: every package that a fresh environment gets today, at the version it gets.

`make test`, `make parity`, `make integration`, `make docs` and CI install under these constraints, so that a release
made tomorrow cannot turn them red; `make newest` runs the suite without them. pyproject.toml's own ranges stay open: a
user gets what pip resolves.

    make constraints        # all, with the Python that make uses
    python tools/constraints.py parity
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "constraints"
# What pip is asked for, as in the Makefile; and hatchling, which pip itself asks for to build trivec.
INSTALLED = {
    "dev": ("hatchling", "--editable", f"{ROOT}[dev]"),
    "parity": ("hatchling", "--requirement", str(FOLDER / "parity.in"), "--editable", f"{ROOT}[train]"),
    "docs": ("--requirement", str(FOLDER / "docs.in")),
    "ray": ("hatchling", "--requirement", str(FOLDER / "ray.in"), "--editable", f"{ROOT}[ray]"),
} | {
    name: ("hatchling", "--requirement", str(FOLDER / f"{name}.in"), "--editable", f"{ROOT}[server]")
    for name in ("integration", "langchain", "llama-index", "haystack")
}
# Not constrained: the package itself, and what a new environment brings along.
_LEFT_OUT = {"trivec", "pip", "setuptools", "wheel"}


def write(name: str) -> Path:
    """Install `name`'s packages into a new environment, write down what came, and return the file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *INSTALLED[name]], check=True)
        # Not `pip freeze`, which names where a local file lay.
        listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    # Without what follows a "+": torch's CPU build calls itself 2.13.0+cpu, and is one of several that serve 2.13.0.
    packages = [line.partition("+")[0] for line in listed.split() if line.partition("==")[0] not in _LEFT_OUT]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    file = FOLDER / f"{name}-{version}.txt"
    head = f"# Python {version}, {datetime.date.today().isoformat()}; made by `make constraints`.\n"
    file.write_text(head + "\n".join(sorted(packages, key=str.lower)) + "\n", encoding="utf-8")
    return file


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(INSTALLED)}; all if none")
    for name in parser.parse_args().names or INSTALLED:
        print(f"wrote {write(name).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
