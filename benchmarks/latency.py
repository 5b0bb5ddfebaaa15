"""Seconds until a single query has its vectors: median and 95th percentile, with 1 and with 4 threads calling at once.

The roof: a query of 16 tokens uses each weight 16 times and then no more, so it is bounded less by arithmetic than by
reading the weights: 302 million of them a pass, 1.2 GB in float32 and 0.6 GB in bfloat16. The yardstick is the time of
all products of one query with weights that no cache holds, in the same round; the rest of a query (tokenizing,
attention, layer norms, Python) comes on top of it. With 4 callers on few cores, calls wait for each other: a caller's
time is then about 4 times that of one, and less where calls can share the weights they read.

    python benchmarks/latency.py
    python benchmarks/latency.py --size tiny --rounds 2
"""

from __future__ import annotations

import statistics
import sys

import numpy as np

import report
from session import Session, parser

CALLERS = (1, 4)
# Rows of the left matrix: the tokens of one query.
ROOF_TOKENS = 16


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--queries", type=int, default=16, help="calls a round, for each number of callers")
    session = Session("latency", options.parse_args())

    yardstick = session.roof()
    with session.lineup() as lineup:
        seconds = {callers: {name: [] for name in session.options.peers} for callers in CALLERS}
        for number in range(session.options.rounds):
            print(f"round {number + 1} of {session.options.rounds}", file=sys.stderr)
            yardstick.measure(ROOF_TOKENS, repeats=10)
            texts = session.texts.questions(session.options.queries, seed=number + 1)
            for callers in CALLERS:
                for name in lineup.turns(number):
                    answer = lineup.ask(name, "latency", texts=texts, callers=callers)
                    if answer:
                        seconds[callers][name].append(answer["seconds"])
        session.note_peers(lineup)
    yardstick.close()

    ours = session.ours()
    session.result["roof"] = yardstick.as_json()
    session.result["roof"]["milliseconds_a_query"] = query_roof(session, yardstick.rates)
    session.result["callers"] = {}
    for callers, of_peers in seconds.items():
        calls = {name: rounds for name, rounds in of_peers.items() if rounds}
        rates = {name: [1 / statistics.median(r) for r in rounds] for name, rounds in calls.items()}
        figures = report.summary(rates, ours)
        for name, of_peer in figures.items():
            of_peer.update(
                unit="calls/s, from the median call of a round",
                milliseconds=[percentiles(one_round) for one_round in calls[name]],
                overall=percentiles([s for one_round in calls[name] for s in one_round]),
            )
        session.result["callers"][str(callers)] = figures
        rows = [
            [
                name,
                lineup.facts[name]["precision"],
                f["overall"]["p50"],
                f["overall"]["p95"],
                *(f["ours_is_times"].get(o, {}).get("median") for o in ours),
            ]
            for name, f in figures.items()
        ]
        header = ["peer", "precision", "p50 ms", "p95 ms", *(f"{o} is x" for o in ours)]
        title = (
            f"one query of 16 tokens, {callers} calling: {session.options.rounds} rounds of {session.options.queries}"
        )
        report.table(title, header, rows)
    report.left_out(lineup.unavailable)
    report.roof(session.result["roof"])
    for precision, milliseconds in session.result["roof"]["milliseconds_a_query"].items():
        print(f"the products of a query alone, {precision}: {milliseconds:.1f} ms")
    of_one = session.result["callers"]["1"].items()
    session.finish({"p50_ms": {name: round(f["overall"]["p50"], 2) for name, f in of_one}})


def query_roof(session: Session, rates: dict[tuple[int, str], list[float]]) -> dict[str, float]:
    """Milliseconds that the products of a query take at the measured rate, by precision."""
    hidden, inner = session.config["hidden_size"], session.config["intermediate_size"]
    products = 2 * ROOF_TOKENS * session.config["num_hidden_layers"] * (4 * hidden**2 + 2 * hidden * inner)
    return {precision: products / statistics.median(values) * 1e3 for (_, precision), values in rates.items()}


if __name__ == "__main__":
    main()
