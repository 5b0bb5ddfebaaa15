"""A peer's own process: loads it, says that it is ready, then does one timed thing at a time when told to.

Requests and answers are lines of JSON over standard input and output. Times are taken here, around the peer's own
calls, so that neither JSON nor the other processes count. Knows nothing about rounds or the other peers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peers import Loaded

MEGABYTE = 1e6
SLICE = 1024


def encode(model: Loaded, texts: list[str]) -> dict[str, Any]:
    """Encode texts in one call."""
    started = time.perf_counter()
    model.encode(texts)
    return {"seconds": time.perf_counter() - started}


def dense(model: Loaded, texts: list[str]) -> dict[str, Any]:
    """The dense vectors themselves, to compare peers by."""
    return {"vectors": [[float(value) for value in row] for row in model.encode(texts)]}


def latency(model: Loaded, texts: list[str], callers: int) -> dict[str, Any]:
    """Encode texts one a call, from `callers` threads at once; the seconds of each call as its caller sees it."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for text in texts:
        waiting.put(text)
    seconds: list[float] = []

    def call() -> None:
        while True:
            try:
                text = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.perf_counter()
            model.encode([text])
            seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(seconds) != len(texts):
        raise RuntimeError(f"only {len(seconds)} of {len(texts)} calls came back")
    return {"seconds": seconds, "total": time.perf_counter() - started}


def memory(model: Loaded) -> dict[str, Any]:
    """Resident memory now and at its peak since the last `forget_peak`, in MB, with the part that is not files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"now": "VmRSS", "peak": "VmHWM", "anonymous": "RssAnon", "files": "RssFile"}
    return {key: int(fields[name].split()[0]) * 1024 / MEGABYTE for key, name in names.items()}


def forget_peak(model: Loaded) -> dict[str, Any]:
    """Start the peak of resident memory anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return {}


def stream(model: Loaded, texts: list[str], count: int) -> dict[str, Any]:
    """Encode `count` texts (the given ones over and over) without keeping vectors."""
    endless = itertools.islice(itertools.cycle(texts), count)
    started = time.perf_counter()
    for _ in model.stream(endless) if model.stream else _in_slices(model, endless):
        pass
    return {"seconds": time.perf_counter() - started}


def gemm(model: Loaded, **arguments: Any) -> dict[str, Any]:
    """Measure the yardstick; see `peers.gemm`."""
    from peers.gemm import rate

    return {"rate": rate(**arguments)}


OPERATIONS = {function.__name__: function for function in (encode, dense, latency, memory, forget_peak, stream, gemm)}


def main() -> None:
    # Libraries print what they like; the answers keep standard output for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    settings = json.loads(sys.stdin.readline())
    try:
        peer = importlib.import_module(f"peers.{settings['module']}")
        started = time.perf_counter()
        for name in peer.IMPORTS:
            importlib.import_module(name)
        imported = time.perf_counter()
        model = peer.load(settings)
        loaded = time.perf_counter()
        versions = {name: importlib.metadata.version(name) for name in peer.PACKAGES}
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        raise
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    answer(
        {"import": imported - started, "load": loaded - imported, "precision": model.precision, "versions": versions}
    )
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(OPERATIONS[request.pop("do")](model, **request))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})
            raise


def _in_slices(model: Loaded, texts: Iterable[str]) -> Iterator[object]:
    while some := list(itertools.islice(texts, SLICE)):
        yield model.encode(some)


if __name__ == "__main__":
    main()
