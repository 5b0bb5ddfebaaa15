"""The `trivec` command. Each command is a module here and does nothing but read options, call the library and print."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the `trivec` command.

    Exit codes: 0, 1 (failed, or verify found differences), 2 (usage), 130 (Ctrl-C), 143 (SIGTERM, SIGHUP).
    """
    # gRPC, which carries Milvus, writes its connection log to the terminal unless told not to before its import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from trivec.cli import signals  # `import trivec.cli` stays free of typer

        signals.settle()
        from trivec.cli.app import run

        code = run(sys.argv[1:])
        if code == 130 and signals.was_terminated():
            code = 143
        signals.end()
    except KeyboardInterrupt as interrupt:  # before there was a command to say more
        terminated = type(interrupt) is not KeyboardInterrupt
        sys.stderr.write("terminated\n" if terminated else "interrupted\n")
        code = 143 if terminated else 130
    sys.exit(code)
