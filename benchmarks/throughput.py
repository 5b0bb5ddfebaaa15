"""Tokens a second: documents, short queries in bulk, and texts of mixed lengths, each in one call.

The roof: a token costs 604 million operations at full size (`roof.py`), nearly all in products of large matrices, so
tokens a second are bounded by the rate of those products, measured in every round in float32 and bfloat16 with as
many rows as a batch of documents has. The share of the roof counts the operations of real tokens only: padding, softmax,
layer norms, tokenizing and waiting all show as distance. int8 has no roof here.

    python benchmarks/throughput.py                         # full size
    python benchmarks/throughput.py --size tiny
    python benchmarks/throughput.py --scenarios documents --peers trivec-auto reference
"""

from __future__ import annotations

import sys

import numpy as np

import report
import roof
from session import Session, parser
from trivec.batching import plan_batches
from trivec.model import TOKENS_PER_TEXT

SCENARIOS = ("documents", "questions", "mixed")
# Rows of the left matrix in the roof: 16 documents of 184 tokens.
ROOF_TOKENS = 2944
DEFAULT_BATCH = 16


def padding_share(lengths: list[int]) -> float:
    """The share of padding in what trivec computes, by its plan of batches."""
    ordered = np.array(lengths)
    batches = plan_batches(ordered, DEFAULT_BATCH * TOKENS_PER_TEXT)
    computed = sum(len(batch) * int(ordered[batch].max()) for batch in batches)
    return 1 - int(ordered.sum()) / computed


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options.add_argument("--documents", type=int, default=24, help="texts a round")
    options.add_argument("--questions", type=int, default=128, help="texts a round")
    options.add_argument("--mixed", type=int, default=12, help="texts a round")
    session = Session("throughput", options.parse_args())
    draw = {"documents": session.texts.paragraphs, "questions": session.texts.questions, "mixed": session.texts.mixed}
    scenarios = {name: getattr(session.options, name) for name in session.options.scenarios}

    yardstick = session.roof()
    with session.lineup() as lineup:
        speeds = {scenario: {name: [] for name in session.options.peers} for scenario in scenarios}
        operations = {scenario: {name: [] for name in session.options.peers} for scenario in scenarios}
        for number in range(session.options.rounds):
            print(f"round {number + 1} of {session.options.rounds}", file=sys.stderr)
            yardstick.measure(ROOF_TOKENS)
            for scenario, count in scenarios.items():
                # Other texts, and so other shapes of batches, every round: no corpus repeats itself.
                texts = draw[scenario](count, seed=number + 1)
                lengths = session.texts.lengths(texts)
                for name in lineup.turns(number):
                    answer = lineup.ask(name, "encode", texts=texts)
                    if answer:
                        speeds[scenario][name].append(sum(lengths) / answer["seconds"])
                        operations[scenario][name].append(roof.operations(lengths, session.config) / answer["seconds"])
        session.note_peers(lineup)
    yardstick.close()

    ours = session.ours()
    session.result["roof"] = yardstick.as_json()
    session.result["padding_share_mixed"] = padding_share(session.texts.lengths(session.texts.mixed(1024, seed=0)))
    session.result["scenarios"] = {}
    for scenario, count in scenarios.items():
        figures = report.summary(speeds[scenario], ours)
        for name, of_peer in figures.items():
            precision = lineup.facts[name]["precision"]
            of_peer["share_of_roof"] = yardstick.share(name, ROOF_TOKENS, operations[scenario][name], precision)
        session.result["scenarios"][scenario] = {"texts_a_round": count, "unit": "tokens/s", "peers": figures}
        rows = [
            [
                name,
                lineup.facts[name]["precision"],
                f["median"],
                None if f["share_of_roof"] is None else f"{f['share_of_roof']:.0%}",
                *(f["ours_is_times"].get(o, {}).get("median") for o in ours),
                None
                if session.result["peers"][name].get("dense_cosine") is None
                else f"{session.result['peers'][name]['dense_cosine']:.5f}",
            ]
            for name, f in figures.items()
        ]
        header = ["peer", "precision", "tokens/s", "of roof", *(f"{o} is x" for o in ours), "cosine"]
        report.table(f"{scenario}: {count} texts a round, median of {session.options.rounds} rounds", header, rows)
    report.left_out(lineup.unavailable)
    for key, figure in session.result["roof"]["gigaops"].items():
        print(f"roof, {key}: {figure['median']:.0f} x 10^9 operations/s")
    print(f"padding in trivec's batches of mixed texts: {session.result['padding_share_mixed']:.1%}")
    session.finish(
        {
            scenario: {name: round(f["median"], 1) for name, f in content["peers"].items()}
            for scenario, content in session.result["scenarios"].items()
        }
    )


if __name__ == "__main__":
    main()
