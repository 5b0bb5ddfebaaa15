"""The virtual environments that the peers run in: with torch for the reference, for ONNX Runtime, and for each server.

trivec itself, and plain OpenVINO, run in the Python that runs the benchmark. Knows packages, nothing about models.

    python benchmarks/environment.py                                  # all, about 8 GB
    python benchmarks/environment.py reference onnx                   # all benchmarks but server.py, about 3.5 GB
    python benchmarks/environment.py infinity m3serve flagembedding   # server.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# transformers is pinned where a package breaks with its releases: FlagEmbedding follows the newest, and onnxruntime's
# fusion of attention recognises only what transformers 4 wrote. torch comes first and exactly: asked for in other
# ways, pip brings gigabytes of GPU libraries.
REQUIREMENTS = {
    "reference": ("torch==2.13.0", "FlagEmbedding==1.4.2", "pymilvus.model==0.3.4", "transformers==5.23.0"),
    "onnx": ("torch==2.13.0", "transformers==4.46.3", "onnxruntime==1.32.0", "bge-m3-lite[quant]==0.6.2"),
    "infinity": ("torch==2.13.0", "infinity-emb[server,torch]==0.0.78", "transformers==4.57.6"),
    "m3serve": ("torch==2.13.0", "m3serve==0.2.3", "transformers==5.24.0", "fastapi==0.165.0", "uvicorn==0.54.0"),
    "flagembedding": (
        "torch==2.13.0",
        "FlagEmbedding==1.4.2",
        "transformers==5.23.0",
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
    ),
}
# Of this Python itself: no installation, it is the one trivec lies in.
OWN = "trivec"


def python_of(environment: str) -> Path:
    """The interpreter of an environment, whether or not it is there."""
    return Path(sys.executable) if environment == OWN else FOLDER / f".venv-{environment}" / "bin" / "python"


def missing(environment: str) -> str | None:
    """Why an environment cannot be used, or None if it can."""
    if environment == OWN:
        return None
    marker = FOLDER / f".venv-{environment}" / "installed.json"
    if not marker.is_file():
        return f"not installed: run `python benchmarks/environment.py {environment}`"
    if json.loads(marker.read_text()) != list(REQUIREMENTS[environment]):
        return f"installed with other versions: run `python benchmarks/environment.py {environment}` again"
    return None


def create(environment: str) -> None:
    """Make an environment and install what it needs; one that is up to date is left alone."""
    if missing(environment) is None:
        return
    folder = FOLDER / f".venv-{environment}"
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    requirements = REQUIREMENTS[environment]
    for packages in (requirements[:1], requirements):
        pip = [str(python_of(environment)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
    (folder / "installed.json").write_text(json.dumps(requirements))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="*", default=[], help=f"any of {', '.join(REQUIREMENTS)}; all if none")
    failed = False
    for environment in parser.parse_args().environments or REQUIREMENTS:
        try:
            create(environment)
        except (subprocess.CalledProcessError, KeyError) as error:
            print(f"{environment}: failed ({error}); its peers will be reported as not installed")
            failed = True
        else:
            print(f"{environment}: ready")
    sys.exit(failed)


if __name__ == "__main__":
    main()
