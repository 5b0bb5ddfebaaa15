"""Tokens a second against the length of the texts, 8 to 8,192 tokens, and against the size of the corpus.

The roof: the products with the weights cost the same for every token; attention adds 4 S H operations a token and
layer for texts of S tokens, a sixth more at 1,024 tokens and a third more than all the rest at 8,192. Short texts fall
off where batches are too small to fill the processor, long ones where attention's matrices outgrow its caches. Corpora
of different sizes should make no difference at all: whatever grows with them is a fault.

Each round encodes about the same number of tokens at every length. Corpora are of short texts and only measured when
asked for: at full size ten thousand of them take minutes, with the slower peers hours.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --lengths --corpus 1000 10000 --peers trivec-auto
    python benchmarks/scaling.py --size tiny --rounds 1
"""

from __future__ import annotations

import sys

import numpy as np

import report
import speed
from session import Session, parser

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--lengths", type=int, nargs="*", default=list(LENGTHS), help="tokens of a text")
    options.add_argument("--tokens", type=int, default=2048, help="tokens a round at each length, at least one text")
    options.add_argument("--corpus", type=int, nargs="*", default=[], help="numbers of texts of 16 tokens on average")
    session = Session("scaling", options.parse_args())
    lengths = [n for n in session.options.lengths if n <= session.max_length]
    if len(lengths) < len(session.options.lengths):
        print(f"texts of more than {session.max_length} tokens are left out: these weights end there", file=sys.stderr)

    def draw(number: int) -> dict[tuple[str, int], list[str]]:
        generator = np.random.default_rng([4, number])
        texts = {("length", n): n_texts(n, max(1, session.options.tokens // n), generator) for n in lengths}
        corpora = {("corpus", n): session.texts.questions(n, seed=number + 1) for n in session.options.corpus}
        return texts | corpora

    def n_texts(tokens: int, count: int, generator: np.random.Generator) -> list[str]:
        return [session.texts.of_length(tokens, generator) for _ in range(count)]

    with session.lineup() as lineup:
        measured = speed.measure(session, lineup, draw)

    for axis, title in (("length", "tokens of a text"), ("corpus", "texts in the corpus")):
        of_axis = {x: content for (of, x), content in measured.items() if of == axis}
        session.result[axis] = of_axis
        names = [name for name in session.options.peers if any(name in c["peers"] for c in of_axis.values())]
        rows = [[x, *(c["peers"].get(name, {}).get("median") for name in names)] for x, c in of_axis.items()]
        if rows:
            report.table(f"tokens/s, median of {session.options.rounds} rounds", [title, *names], rows)
    report.left_out(lineup.unavailable)
    report.roof(session.result["roof"])
    session.finish(speed.medians({f"{axis} {x}": content for (axis, x), content in measured.items()}))


if __name__ == "__main__":
    main()
