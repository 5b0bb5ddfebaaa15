"""Ray workers side by side: passages a second of two workers with a core each, beside one; rounds by turns.

Runs in the environment of `make integration` that has Ray, on a cluster of two nodes that is started here:

    .venv-ray/bin/python benchmarks/ray_workers.py
    .venv-ray/bin/python benchmarks/ray_workers.py --passages 5000 --rounds 1

Timed is from the first shard written to the last, so that starting Ray and loading models, which a long run does once,
is left out; each run encodes the same corpus into a new folder. Needs two cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

import machine
import report
from shards import BUILD, trivec, write_corpus

LOOK_AGAIN = 0.02  # seconds


def passages_a_second(corpus: Path, folder: Path, address: str, workers: int, rows: int) -> float:
    """Encode the corpus, and return the speed from the first wave of shards to the last shard."""
    command = trivec("encode", corpus, "-m", "nano", "--shard-rows", rows, "--threads", 1, "--out", f"{folder}/")
    times: list[float] = []
    with subprocess.Popen([*command, "--ray", address, "--workers", str(workers)]) as running:
        while running.poll() is None:
            there = sum(1 for _ in folder.glob("*.parquet")) if folder.exists() else 0
            times += [time.perf_counter()] * (there - len(times))
            time.sleep(LOOK_AGAIN)
    there = sum(1 for _ in folder.glob("*.parquet"))
    times += [time.perf_counter()] * (there - len(times))
    if running.returncode or len(times) <= workers:
        sys.exit("it failed, or there are too few shards")
    first = times[workers - 1]  # by then every worker has loaded its model and written one
    return (len(times) - workers) * rows / (times[-1] - first)


def two_nodes(tries: int) -> Cluster:
    """Start a head that does no work and two nodes of a core each; Ray gives up on a node after 30 seconds."""
    try:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1, include_dashboard=False)
    except Exception:
        if tries == 1:
            raise
        return two_nodes(tries - 1)
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=40_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=BUILD / "ray_workers.json")
    options = parser.parse_args()
    work = BUILD / f"ray-{time.strftime('%Y%m%d-%H%M%S')}"
    work.mkdir(parents=True)
    write_corpus(work / "passages.jsonl", options.passages)
    cluster = two_nodes(tries=4)
    rates: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
    facts = machine.describe()
    try:
        for number in range(options.rounds):
            for workers in (1, 2) if number % 2 == 0 else (2, 1):
                folder = work / f"round-{number}-{workers}"
                rate = passages_a_second(work / "passages.jsonl", folder, cluster.address, workers, options.shard_rows)
                rates["1 worker" if workers == 1 else "2 workers"].append(rate)
                print(f"{workers} x 1 core: {rate:,.0f} passages/s")
    finally:
        cluster.shutdown()
    times = [two / one for one, two in zip(rates["1 worker"], rates["2 workers"], strict=True)]
    result = {"benchmark": "ray_workers", "machine": facts, "passages_a_second": rates, "times": times}
    report.finish(result, {"times": round(statistics.median(times), 2)}, options.output)


if __name__ == "__main__":
    main()
