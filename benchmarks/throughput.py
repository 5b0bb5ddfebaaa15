"""Tokens a second: documents, short queries in bulk, and texts of mixed lengths, each in one call.

The roof: a token costs 604 million operations at full size (`roof.py`), nearly all in products of large matrices, so
tokens a second are bounded by the rate of those products, measured in every round in float32 and bfloat16 with as
many rows as a batch of documents has. The share of the roof counts the operations of real tokens only: padding,
softmax, layer norms, tokenizing and waiting all show as distance. int8 has no roof here.

    python benchmarks/throughput.py                         # full size
    python benchmarks/throughput.py --size tiny
    python benchmarks/throughput.py --scenarios documents --peers trivec-auto reference
"""

from __future__ import annotations

import numpy as np

import report
import speed
from session import Session, parser
from trivec.engines.batching import plan_batches
from trivec.engines.openvino.engine import MOST_TOKENS

SCENARIOS = ("documents", "questions", "mixed")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options.add_argument("--documents", type=int, default=24, help="texts a round")
    options.add_argument("--questions", type=int, default=128, help="texts a round")
    options.add_argument("--mixed", type=int, default=12, help="texts a round")
    session = Session("throughput", options.parse_args())
    kinds = {"documents": session.texts.paragraphs, "questions": session.texts.questions, "mixed": session.texts.mixed}

    def draw(number: int) -> dict[str, list[str]]:
        """Draw other texts, and so other shapes of batches, every round: no corpus repeats itself."""
        return {s: kinds[s](getattr(session.options, s), seed=number + 1) for s in session.options.scenarios}

    with session.lineup() as lineup:
        measured = speed.measure(session, lineup, draw)

    session.result["scenarios"] = measured
    session.result["padding_share_mixed"] = padding_share(session.texts.lengths(session.texts.mixed(1024, seed=0)))
    ours = session.ours()
    for scenario, content in measured.items():
        rows = [
            [
                name,
                session.result["peers"][name].get("precision"),
                of_peer["median"],
                report.percent(of_peer["share_of_roof"]),
                *(of_peer["ours_is_times"].get(o, {}).get("median") for o in ours),
                report.cosine(session.result["peers"][name].get("dense_cosine")),
            ]
            for name, of_peer in content["peers"].items()
        ]
        header = ["peer", "precision", "tokens/s", "of roof", *(f"{o} is x" for o in ours), "cosine"]
        title = f"{scenario}: {content['texts_a_round']} texts a round, median of {session.options.rounds} rounds"
        report.table(title, header, rows)
    report.left_out(lineup.unavailable)
    report.roof(session.result["roof"])
    print(f"padding in trivec's batches of mixed texts: {session.result['padding_share_mixed']:.1%}")
    session.finish(speed.medians(measured))


def padding_share(lengths: list[int]) -> float:
    """The share of padding in what trivec computes, by its plan of batches."""
    ordered = np.array(lengths)
    batches = plan_batches(ordered, MOST_TOKENS)
    computed = sum(len(batch) * int(ordered[batch].max()) for batch in batches)
    return 1 - int(ordered.sum()) / computed


if __name__ == "__main__":
    main()
