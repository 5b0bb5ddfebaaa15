"""What HTTP costs: `trivec serve` beside the same model in-process, and beside the servers that people use instead.

The roof of each scenario is the same work in-process, measured by turns in the same run; it has both cores to itself,
while the server shares them with its client. `--overload` and `--check` measure no speed: see modules `overload` and
`equality`.

    python benchmarks/environment.py infinity m3serve flagembedding    # once: the peers
    python benchmarks/server.py                                        # the bundled model: ten minutes
    python benchmarks/server.py --size full --tokenizer FOLDER         # random weights of BGE-M3's shape: half an hour
    python benchmarks/server.py --scenarios one clients --rounds 2     # some of it
    python benchmarks/server.py --overload 180                         # three minutes of ten times what it can do
    python benchmarks/server.py --check 10000                          # every answer beside M3Model.encode
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import machine
import publish
import report
import weights
from http_client import Answer, Client, Job, Report
from peers import PEERS
from processes import Lineup, PeerError, Worker
from servers import OURS, SERVERS, Running, Setting, peers_folder
from texts import Texts

MODEL = "trivec-auto"
# A query's extra time is taken between neighbours, so that both met the same machine.
BLOCK = 10
CLIENTS = 64
PEER_CLIENTS = (1, 32)
# What a batch holds at most on a CPU.
BATCH_TOKENS = 1024
# A server loaded for its turn needs up to this many times the size of the weights.
ROOM = 2.5


class Bench:
    """The surroundings: model, texts, options, and one client process."""

    def __init__(self, options: argparse.Namespace, client: Client) -> None:
        self.options, self.client = options, client
        if options.size == "nano" and options.checkpoint is None:
            options.checkpoint = Path(__file__).parents[1] / "src" / "trivec" / "data" / "nano"
        self.checkpoint = weights.checkpoint(options)
        self.longest = weights.config(self.checkpoint)["max_position_embeddings"] - 2
        self.texts = Texts(self.checkpoint, self.longest)
        self.setting = Setting(str(self.checkpoint), peers_folder(self.checkpoint), options.threads, self.longest)
        small = options.size == "nano"
        self.queries, self.bulk = (2000, 1000) if small else (256, 1000)
        # Paragraphs where the model is quick; 10,000 of them would take an hour at full size.
        self.bulk_texts = self.texts.paragraphs if small else self.texts.questions

    def in_process(self) -> Worker:
        """The same model in a process without a server."""
        converted = str(weights.converted(self.checkpoint))
        settings = {"checkpoint": str(self.checkpoint), "converted": converted, "threads": self.options.threads}
        return Worker(MODEL, PEERS[MODEL], settings)

    def send(self, running: Running, texts: Sequence[Sequence[str]], connections: int, **more: Any) -> Report:
        """Send a request for each list of texts and see that every answer is 200."""
        requests = [running.server.request(some) for some in texts]
        return good(self.client.run(Job(running.port, requests, connections, **more)))


def good(of_job: Report) -> Report:
    """Return it, if every answer is 200."""
    others = Counter(answer.status for answer in of_job.answers if answer.status != 200)
    if others or of_job.unasked:
        bodies = [answer.body for answer in of_job.answers if answer.body and answer.status != 200]
        raise PeerError(f"answers other than 200: {dict(others)}, {of_job.unasked} bytes unasked for; {bodies[:1]}")
    return of_job


def seconds_of(answers: Sequence[Answer]) -> list[float]:
    return [answer.seconds for answer in answers]


def one(bench: Bench, running: Running, alone: Worker, number: int) -> dict[str, float]:
    """One client with one short query at a time, against calls in-process, in blocks by turns."""
    texts = bench.texts.questions(20 * BLOCK, seed=number)
    inside, outside = [], []
    for at in range(0, len(texts), BLOCK):
        some = texts[at : at + BLOCK]
        inside += alone.ask("latency", texts=some, callers=1)["seconds"]
        outside += seconds_of(bench.send(running, [[text] for text in some], 1).answers)
    middle = {"in_process_ms": statistics.median(inside) * 1e3, "served_ms": statistics.median(outside) * 1e3}
    return middle | {"extra_ms": middle["served_ms"] - middle["in_process_ms"]}


def clients(bench: Bench, running: Running, alone: Worker, number: int) -> dict[str, float]:
    """64 clients with one short query each at a time, against all of them in one call."""
    texts = bench.texts.questions(bench.queries, seed=number)
    inside = alone.ask("encode", texts=texts)["seconds"]
    outside = bench.send(running, [[text] for text in texts], CLIENTS)
    return rates(len(texts), inside, outside)


def bulk(bench: Bench, running: Running, alone: Worker, number: int) -> dict[str, float]:
    """Requests of 1,000 texts, two at a time, against all of them in one call; dense and sparse as numbers."""
    texts = bench.bulk_texts(2 * bench.bulk, seed=number)
    inside = alone.ask("encode", texts=texts)["seconds"]
    outside = bench.send(running, [texts[: bench.bulk], texts[bench.bulk :]], 2)
    return rates(len(texts), inside, outside)


def meanwhile(bench: Bench, running: Running, alone: Worker, number: int) -> dict[str, float]:
    """One client with short queries while 10,000 texts in five requests are computed, against one batch's time."""
    texts = bench.bulk_texts(bench.options.bulk_texts, seed=number)
    fifth = len(texts) // 5
    parts = [texts[at : at + fifth] for at in range(0, len(texts), fifth)]
    batch = one_batch(bench, texts)
    batches = [alone.ask("encode", texts=batch)["seconds"] for _ in range(9)]
    queries = bench.texts.questions(100, seed=number)
    with Client() as bulk_client:
        bulk_client.begin(Job(running.port, [running.server.request(part) for part in parts], len(parts)))
        short = bench.send(running, [[query] for query in queries], 1, seconds=bench.options.meanwhile)
        begun = short.wall
        long = good(bulk_client.report())
    # Those that ended before the bulk did.
    during = [a.seconds for a in short.answers if a.begun + a.seconds < long.wall]
    if begun > long.wall:
        print(f"the bulk took {long.wall:.0f} s only, less than the queries beside it", file=sys.stderr)
    p50, p99 = np.percentile(np.array(during) * 1e3, [50, 99])
    one_ms = statistics.median(batches) * 1e3
    found = {"batch_ms": one_ms, "p50_ms": float(p50), "p99_ms": float(p99), "queries": float(len(during))}
    return found | {"p99_in_batches": float(p99) / one_ms, "bulk_seconds": long.wall}


def rates(texts: int, inside: float, outside: Report) -> dict[str, float]:
    """Texts a second in-process and served, their ratio, and the client's share of one core."""
    found = {"in_process": texts / inside, "served": texts / outside.wall}
    return found | {"share": inside / outside.wall, "client_cpu": outside.cpu / outside.wall}


def one_batch(bench: Bench, texts: Sequence[str]) -> list[str]:
    """The first texts that fill a batch."""
    chosen, tokens = [], 0
    for text, length in zip(texts, bench.texts.lengths(list(texts[:200])), strict=False):
        tokens += length
        if tokens > BATCH_TOKENS:
            break
        chosen.append(text)
    return chosen


SCENARIOS: dict[str, Callable[[Bench, Running, Worker, int], dict[str, float]]] = {
    function.__name__: function for function in (one, clients, bulk, meanwhile)
}


def beside_in_process(bench: Bench, names: Sequence[str]) -> dict[str, Any]:
    """Run scenarios with our own server and return each round's figures."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    options = ["--max-queue-tokens", "10000000"] if "meanwhile" in names else []
    alone = bench.in_process()
    running = Running(MODEL, bench.setting, options)
    try:
        warm_up(bench, running, alone)
        for number in range(1, bench.options.rounds + 1):
            for name in names:
                print(f"round {number} of {bench.options.rounds}: {name}", file=sys.stderr)
                rounds[name].append(SCENARIOS[name](bench, running, alone, number))
                print(f"  {rounds[name][-1]}", file=sys.stderr)
    finally:
        alone.close()
        running.close()
    return {name: {"rounds": of, "median": medians(of)} for name, of in rounds.items()}


def warm_up(bench: Bench, running: Running, alone: Worker) -> None:
    """Let both meet most of the lengths there will be: OpenVINO compiles products for each."""
    texts = bench.texts.questions(128, seed=0) + bench.bulk_texts(64, seed=0)
    for _ in range(2):
        alone.ask("encode", texts=texts)
        alone.ask("latency", texts=texts, callers=1)
        bench.send(running, [texts], 1)
        bench.send(running, [[text] for text in texts], 1)


class Asked:
    """A server as `Lineup` knows peers: it is asked, and left out when it fails."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench, self._running = bench, Running(name, bench.setting)
        self.facts = self._running.facts
        vectors = bench.texts.paragraphs(3, seed=0)
        server = self._running.server
        self.facts["vectors"] = server.dense(self._running.ask(server.path, server.body(vectors)))
        self.ask("load", texts=bench.texts.questions(64, seed=0), clients=8, seconds=2.0)

    def ask(self, _do: str, texts: Sequence[str], clients: int, seconds: float) -> dict[str, Any]:
        """Send single texts from so many clients for a time."""
        requests = [self._running.server.request([text]) for text in texts]
        done = self._bench.client.run(Job(self._running.port, requests, clients, seconds))
        failed = Counter(answer.status for answer in done.answers if answer.status != 200)
        answered = [answer.seconds for answer in done.answers if answer.status == 200]
        if not answered:
            raise PeerError(f"no answer but {dict(failed)}")
        return {"seconds": answered, "rate": len(answered) / done.wall, "failed": failed, "cpu": done.cpu / done.wall}

    def close(self) -> None:
        """End it."""
        self._running.close()


def beside_peers(bench: Bench) -> dict[str, Any]:
    """Single short queries from 1 and 32 clients to each server, by turns."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {n: {c: [] for c in PEER_CLIENTS} for n in bench.options.peers}
    size = (bench.setting.folder / "model.safetensors").stat().st_size
    with Lineup(bench.options.peers, lambda name: Asked(bench, name), ROOM * size) as lineup:  # type: ignore[arg-type]
        for number in range(1, bench.options.rounds + 1):
            texts = bench.texts.questions(bench.queries, seed=100 + number)
            for count in PEER_CLIENTS:
                for name in lineup.turns(number):
                    print(f"round {number} of {bench.options.rounds}: {name}, {count} clients", file=sys.stderr)
                    answer = lineup.ask(name, "load", texts=texts, clients=count, seconds=bench.options.seconds)
                    if answer:
                        found[name][count].append(answer)
        facts, unavailable = lineup.facts, lineup.unavailable
    return {
        "unavailable": unavailable,
        "peers": {
            name: {"gives": facts[name]["gives"], "cosine": cosine(facts, name)}
            | {
                str(count): of_rounds(rounds, [r["rate"] for r in found.get(MODEL, {}).get(count, ())])
                for count, rounds in of.items()
            }
            for name, of in found.items()
            if name in facts and all(of.values())
        },
    }


def of_rounds(rounds: Sequence[dict[str, Any]], ours: Sequence[float]) -> dict[str, Any]:
    """Figures of a server and number of clients; the ratio is taken within a round."""
    together = np.array([second for one_round in rounds for second in one_round["seconds"]]) * 1e3
    p50, p99 = np.percentile(together, [50, 99])
    times = [mine / one_round["rate"] for mine, one_round in zip(ours, rounds, strict=False)]
    return {
        "rate": statistics.median(one_round["rate"] for one_round in rounds),
        "rounds": [one_round["rate"] for one_round in rounds],
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "requests": len(together),
        "failed": dict(sum((one_round["failed"] for one_round in rounds), Counter())),
        "client_cpu": statistics.median(one_round["cpu"] for one_round in rounds),
        "trivec_is_times": statistics.median(times) if times else None,
    }


def cosine(facts: dict[str, dict[str, Any]], name: str) -> float | None:
    """How close a server's dense vectors come to ours in float32, at worst: who computes something else cannot win."""
    standard = facts.get(OURS[0], {}).get("vectors")
    if standard is None:
        return None
    a, b = (np.array(vectors) for vectors in (standard, facts[name]["vectors"]))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def client_alone(bench: Bench) -> float:
    """Requests/s that the client does with an answer of 12 KB from a server that computes nothing, 64 connections."""
    program = Path(__file__).with_name("empty_server.py")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        requests = [SERVERS[MODEL].request([text]) for text in bench.texts.questions(100, seed=0)]
        done = good(bench.client.run(Job(port, requests, CLIENTS, seconds=3.0)))
        server.terminate()
    return len(done.answers) / done.wall


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one_round[key] for one_round in rounds) for key in rounds[0]}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--size", choices=["nano", "full"], default="nano", help="the bundled model, or BGE-M3's shape")
    made.add_argument("--checkpoint", type=Path, help="a folder of weights, instead of either")
    made.add_argument("--tokenizer", type=Path, help="folder with a tokenizer.json for the random weights")
    made.add_argument("--scenarios", nargs="*", choices=[*SCENARIOS, "peers"], default=[*SCENARIOS, "peers"])
    made.add_argument("--peers", nargs="+", choices=list(SERVERS), default=list(SERVERS), metavar="PEER")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=10.0, help="of load on a server in its turn")
    made.add_argument("--bulk-texts", type=int, default=10_000, help="that short queries are sent beside")
    made.add_argument("--meanwhile", type=float, default=20.0, help="seconds of short queries beside the bulk request")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="for everybody; every core if not given")
    made.add_argument("--overload", type=float, metavar="SECONDS", help="only this: ten times what it can do")
    made.add_argument("--check", type=int, metavar="REQUESTS", help="only this: compare answers with M3Model.encode")
    made.add_argument("--output", type=Path, help="JSON; build/benchmarks/server-SIZE.json if not given")
    return made


def main() -> None:
    options = parser().parse_args()
    here = machine.describe()
    with Client() as client:
        bench = Bench(options, client)
        if options.check or options.overload:
            from equality import check
            from overload import overload

            done = check(bench, options.check) if options.check else overload(bench, options.overload)
            sys.exit(not done)
        result: dict[str, Any] = {"benchmark": "server", "machine": here, "model": bench.checkpoint.name}
        result |= {key: getattr(options, key) for key in ("size", "threads", "rounds", "seconds")}
        result["client_alone"] = client_alone(bench)
        names = [name for name in options.scenarios if name in SCENARIOS]
        result["scenarios"] = beside_in_process(bench, names) if names else {}
        if "peers" in options.scenarios:
            result["peers"] = beside_peers(bench)
            report.left_out(result["peers"]["unavailable"])
    print("\n".join(publish.server(result)))
    digest = {name: of["median"] for name, of in result["scenarios"].items()}
    report.finish(result, digest, options.output or weights.BUILD / f"server-{options.size}.json")


if __name__ == "__main__":
    main()
