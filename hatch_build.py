"""Compiles the native engine's kernels when the package is built or installed, editable installs too.

One C compiler call, on Linux on x86-64 only. Where there is no compiler, or it fails, the package is built all the
same, without the kernels: trivec then computes with OpenVINO everywhere and refuses int8 where only they could do it.

    python hatch_build.py       # compile again after a change to a .c or .h file
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "src" / "trivec" / "engines" / "native"
LIBRARY = SOURCES / "libtrivec.so"
# The kernels are for AVX2 and FMA, which the engine looks for before it loads them.
FLAGS = ("-std=c11", "-O3", "-mavx2", "-mfma", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra")


def compile_kernels() -> str | None:
    """Compile the library beside its sources; one that is there is replaced at once or not at all.

    Returns:
        None, or why there is none.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"they are for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    compiler = shlex.split(os.environ.get("CC", ""))
    compiler = compiler or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
    if not compiler:
        return "there is no C compiler (Debian, Ubuntu: apt install gcc)"
    partial = LIBRARY.with_name(f".{LIBRARY.name}.{os.getpid()}")
    sources = sorted(map(str, SOURCES.glob("*.c")))
    try:
        done = subprocess.run(
            [*compiler, *FLAGS, "-o", str(partial), *sources, "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"{compiler[0]} failed: {done.stderr.strip()[-2000:]}"
        partial.replace(LIBRARY)
    except OSError as error:
        return f"{compiler[0]} failed: {error}"
    finally:
        partial.unlink(missing_ok=True)
    return None


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without hatchling
    pass
else:

    class KernelsHook(BuildHookInterface[Any]):
        """Hatch's hook: a wheel with kernels fits any Python, but one platform only."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile, and put the library into the wheel."""
            reason = compile_kernels()
            if reason:
                self.app.display_warning(f"trivec is built without its native kernels: {reason}")
                return
            build_data["artifacts"].append(f"/{LIBRARY.relative_to(self.root)}")
            build_data["tag"] = "py3-none-linux_x86_64"
            build_data["pure_python"] = False


if __name__ == "__main__":
    sys.exit(compile_kernels())
