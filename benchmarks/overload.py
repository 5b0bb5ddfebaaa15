"""Ten times what the server can do, for some time: what it answers, whether memory grows, and whether it recovers.

Requests of one short text, of eight paragraphs and of 32 are begun at a fixed rate, whether or not those before were
answered. Every answer is counted, one of twenty is compared with the library's vectors, and five seconds after the last
request was sent a client with single queries must find everything as before. Measures; knows nothing of the server but
its routes.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import urllib.error
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from http_client import Client, Job, Report, Request
from servers import SERVERS, Running
from trivec import M3Model

if TYPE_CHECKING:
    from server import Bench

# Exact vectors can be compared, whatever batch a text was in.
NAME = "trivec-fp32"
TIMES = 10
COMPARED = 20
CLOSE = 1e-5
RECOVERY = 5.0
# After this share of the time memory counts as warmed up; shorter runs say nothing of growth.
WARM = 0.25
SHORTEST_FOR_MEMORY = 60.0
MOST_GROWTH = 0.10
# Texts of a request, and how many requests of that kind there are.
MIX = ((1, 100), (8, 40), (32, 6))
# The queue holds what is computed in this share of the time.
QUEUE = 0.1


class Watch:
    """Looks at the server's memory and health twice a second, in a thread, until told to stop."""

    def __init__(self, running: Running) -> None:
        self.memory: list[tuple[float, float]] = []
        self.health: Counter[str] = Counter()
        self._running, self._ended = running, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._started = time.perf_counter()
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()

    def growth(self, seconds: float) -> tuple[float, float]:
        """Memory in MB when warm, and by what share it was larger at most afterwards, within the time of load."""
        during = [(at, memory) for at, memory in self.memory if at <= seconds]
        before = [memory for at, memory in during if WARM * seconds <= at <= 2 * WARM * seconds]
        after = [memory for at, memory in during if at > 2 * WARM * seconds]
        warm = statistics.median(before) if before else 0.0
        return warm, (max(after) / warm - 1 if warm and after else 0.0)

    def tenths(self, seconds: float) -> list[int]:
        """Median memory in MB of each tenth of the time of load."""
        parts = [[memory for at, memory in self.memory if i <= at / seconds * 10 < i + 1] for i in range(10)]
        return [round(statistics.median(part)) for part in parts if part]

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self.memory.append((time.perf_counter() - self._started, self._running.memory()))
            for path in ("/live", "/health"):
                try:
                    self._running.fetch(path, timeout=10)
                    self.health[f"{path} 200"] += 1
                except urllib.error.HTTPError as error:
                    self.health[f"{path} {error.code}"] += 1
                except OSError as error:
                    self.health[f"{path} {type(error).__name__}"] += 1


def overload(bench: Bench, seconds: float) -> bool:
    """Run it, print what was found; whether all is as it should be."""
    requests, texts = made(bench)
    tokens = [sum(bench.texts.lengths(of)) for of in texts]
    expected, capacity = in_process(bench, texts, sum(tokens))
    queries = [SERVERS[NAME].request([text]) for text in bench.texts.questions(50, seed=3)]
    offered = TIMES * capacity / statistics.mean(tokens)

    # Short enough to be full soon, and to be empty again soon after.
    running = Running(NAME, bench.setting, ["--max-queue-tokens", str(int(capacity * seconds * QUEUE))])
    try:
        for _ in range(2):  # lengths met for the first time take longer
            bench.client.run(Job(running.port, requests))
        before = bench.client.run(Job(running.port, queries))
        print(f"capacity {capacity:,.0f} tokens/s: {offered:,.0f} requests/s for {seconds:.0f} s", file=sys.stderr)
        watch = Watch(running)
        started = time.perf_counter()
        bench.client.begin(Job(running.port, requests, rate=offered, seconds=seconds, keep=True, every=COMPARED))
        time.sleep(max(0.0, started + seconds + RECOVERY - time.perf_counter()))
        with Client() as other:
            after = other.run(Job(running.port, queries))
        during = bench.client.report()
        watch.stop()
    finally:
        status = running.close()
    facts = {"capacity": round(capacity), "offered": round(offered * statistics.mean(tokens)), "exit_status": status}
    return told(during, before, after, watch, seconds, expected, facts)


def told(
    during: Report,
    before: Report,
    after: Report,
    watch: Watch,
    seconds: float,
    expected: list[Any],
    facts: dict[str, Any],
) -> bool:
    """Print what was found, and a line of JSON; whether all is as it should be."""
    statuses = Counter(answer.status for answer in during.answers)
    without = sum(answer.status == 429 and not (answer.retry_after or "").isdigit() for answer in during.answers)
    compared = [(a.index, json.loads(a.body)) for a in during.answers if a.status == 200 and a.body]
    wrong = sum(not same(answer["dense"], expected[index]) for index, answer in compared)
    warm, growth = watch.growth(seconds)
    single = {
        name: statistics.median(a.seconds for a in of.answers) * 1e3
        for name, of in (("before", before), ("after", after))
    }
    others = {status: count for status, count in statuses.items() if status not in (200, 429)}
    found: dict[str, Any] = {
        "benchmark": "server --overload",
        "seconds": seconds,
        "requests": len(during.answers),
        "statuses": dict(statuses),
        "429_without_retry_after": without,
        "lost": statuses[0],
        "unasked_bytes": during.unasked,
        "compared": len(compared),
        "wrong": wrong,
        "memory_mb": round(warm),
        "memory_growth": round(growth, 3),
        "memory_mb_by_tenths": watch.tenths(seconds),
        "health": dict(watch.health),
        "single_query_ms": single,
        "single_query_after": dict(Counter(answer.status for answer in after.answers)),
        **facts,
    }
    for key, value in found.items():
        print(f"{key:>24}: {value}")
    print(json.dumps(found))
    flat = growth <= MOST_GROWTH or seconds < SHORTEST_FOR_MEMORY
    recovered = all(answer.status == 200 for answer in after.answers)
    alive = set(watch.health) <= {"/live 200", "/health 200"}
    right = not (others or without or during.unasked or wrong or facts["exit_status"])
    return right and flat and recovered and alive


def made(bench: Bench) -> tuple[list[Request], list[list[str]]]:
    """The requests, mixed with a seed, and their texts."""
    texts = [bench.texts.questions(1, seed=1000 + i) for i in range(MIX[0][1])]
    for count, requests in MIX[1:]:
        texts += [bench.texts.paragraphs(count, seed=2000 + 100 * count + i) for i in range(requests)]
    order = np.random.default_rng(4).permutation(len(texts))
    texts = [texts[i] for i in order]
    return [SERVERS[NAME].request(of) for of in texts], texts


def in_process(bench: Bench, texts: list[list[str]], tokens: int) -> tuple[list[Any], float]:
    """The dense vectors that the library gives, and tokens a second of all texts in one call."""
    model = M3Model.load(str(bench.checkpoint), precision="fp32", num_threads=bench.options.threads)
    expected = [model.encode(of, return_sparse=False, show_progress=False).dense for of in texts]
    together = [text for of in texts for text in of]
    started = time.perf_counter()
    model.encode(together, show_progress=False)
    seconds = time.perf_counter() - started
    model.close()
    return expected, tokens / seconds


def same(found: Any, expected: Any) -> bool:
    """Whether dense vectors are those expected."""
    vectors = np.asarray(found)
    return vectors.shape == expected.shape and float(np.abs(vectors - expected).max()) <= CLOSE
