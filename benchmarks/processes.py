"""The peers' processes: start, ask with a bounded wait, stop; and who may stay loaded while the others have their turn.

Knows nothing about what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import environment
from peers import Peer
from weights import BUILD

LONGEST_WAIT = 1800.0


class PeerError(Exception):
    """A peer that cannot be loaded, died, or did not answer in time; says why."""


class Worker:
    """One peer in a process of its own.

    Attributes:
        facts: What it said when ready: seconds of "import" and "load", "precision", "versions".
        seconds_to_ready: From starting the process to that answer.
    """

    def __init__(self, name: str, peer: Peer, settings: dict[str, Any], variables: Mapping[str, str] = {}) -> None:
        """Start it and wait until it is loaded.

        Args:
            name: For messages and the log.
            peer: Whom to load.
            settings: For its `load`.
            variables: Environment variables in addition.

        Raises:
            PeerError: It could not be loaded.
        """
        self.name = name
        reason = environment.missing(peer.environment)
        if reason:
            raise PeerError(reason)
        logs = BUILD / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = (logs / f"{name}.log").open("wb")
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [str(environment.python_of(peer.environment)), str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=_variables(peer, settings["threads"]) | dict(variables),
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.facts = self._ask({"module": peer.module} | peer.options | settings)
        self.seconds_to_ready = time.perf_counter() - started

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have it do one of `worker.OPERATIONS` and return the answer.

        Raises:
            PeerError: It failed; it has been stopped.
        """
        return self._ask({"do": do} | arguments)

    def close(self) -> None:
        """Let it end, by force if it will not."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._answers.get(timeout=LONGEST_WAIT)
        except (BrokenPipeError, queue.Empty) as error:
            line = ""
            self._process.kill()
            reason = f"no answer within {LONGEST_WAIT:.0f} s" if isinstance(error, queue.Empty) else ""
        else:
            reason = ""
        answer = json.loads(line) if line else {"error": reason or self._how_it_died()}
        if "error" in answer:
            self.close()
            raise PeerError(answer["error"])
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _how_it_died(self) -> str:
        code = self._process.wait()
        return "killed, most likely for want of memory" if code == -9 else f"its process ended with {code}"


class Lineup:
    """The peers of a benchmark, taking turns.

    Those that fit into memory together stay loaded; each of the rest is loaded for its turn and stopped after it. One
    that fails is left out from then on, with the reason.

    Attributes:
        facts: Of each peer that was loaded, what `Worker.facts` says.
        unavailable: The reason for each that is left out.
    """

    def __init__(self, names: Sequence[str], start: Callable[[str], Worker], room: float) -> None:
        """Load the peers.

        Args:
            names: In the order of the first round.
            start: Starts, and warms up, a peer by name.
            room: Bytes of memory to keep available for a peer that is loaded for its turn.
        """
        self._start = start
        self._live: dict[str, Worker] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.unavailable: dict[str, str] = {}
        self._names = list(names)
        for name in names:
            print(f"loading {name}", file=sys.stderr)
            try:
                worker = start(name)
            except PeerError as error:
                self._leave_out(name, error)
                continue
            self.facts[name] = worker.facts
            if available_memory() > room:
                self._live[name] = worker
            else:
                worker.close()

    def turns(self, number: int) -> Iterator[str]:
        """The names that are still in, each round beginning with another one."""
        shift = number % max(1, len(self._names))
        for name in self._names[shift:] + self._names[:shift]:
            if name not in self.unavailable:
                yield name

    def ask(self, name: str, do: str, **arguments: Any) -> dict[str, Any] | None:
        """Let a peer do something; None if it failed and is out."""
        try:
            worker = self._live.get(name) or self._start(name)
            answer = worker.ask(do, **arguments)
        except PeerError as error:
            self._live.pop(name, None)
            self._leave_out(name, error)
            return None
        if name not in self._live:
            worker.close()
        return answer

    def close(self) -> None:
        """Stop everybody."""
        for worker in self._live.values():
            worker.close()
        self._live.clear()

    def __enter__(self) -> Lineup:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _leave_out(self, name: str, error: PeerError) -> None:
        print(f"{name} is left out: {error}", file=sys.stderr)
        self.unavailable[name] = str(error)


def available_memory() -> float:
    """Bytes that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no line MemAvailable")


def _variables(peer: Peer, threads: int) -> dict[str, str]:
    variables = dict(os.environ)
    if peer.environment != environment.OWN:
        variables.pop("PYTHONPATH", None)
    for name in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        variables[f"{name}_NUM_THREADS"] = str(threads)
    return variables | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "true"}
