"""The `trivec` command. Each command is a module here and does nothing but read options, call the library and print."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the `trivec` command; exit codes: 0, 1 (failed, or verify found differences), 2 (usage), 130 (Ctrl-C)."""
    # gRPC, which carries Milvus, writes its connection log to the terminal unless told not to before its import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from trivec.cli.app import run  # `import trivec.cli` stays free of typer

    sys.exit(run(sys.argv[1:]))
