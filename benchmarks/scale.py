"""The plan on paper for a large corpus: bytes, hours and money, from a few measured numbers; docs/scale.md shows it.

    python benchmarks/scale.py                    # the tables of docs/scale.md
    python benchmarks/scale.py --passages 2e7 --tokens-a-second 1055 --price 0.10

Bytes follow from the columns of a shard (`trivec.shards.columns`); hours from tokens a second of one machine, measured
(docs/performance.md) or given. A test holds docs/scale.md against what this prints, and the bytes against a real file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

HOURS_A_DAY = 24


@dataclass(frozen=True)
class Corpus:
    """What is to be encoded: passages, and of each its tokens (`<s>` and `</s>` counted), lexical weights, bytes."""

    passages: float = 1e9
    tokens: float = 184  # the mean of XQuAD's English paragraphs, as in every benchmark here
    lexical_weights: float = 100
    text_bytes: float = 450  # id, text and metadata, as zstd leaves them
    dim: int = 1024

    def bytes_a_passage(self) -> dict[str, float]:
        """Of each column in a file. Token vectors: one for each token but `<s>`; int8 with a scale of 4 bytes."""
        vectors = self.tokens - 1
        return {
            "id, text, metadata": self.text_bytes,
            "dense": 4 * self.dim,
            "sparse": 8 * self.lexical_weights,
            "token vectors, int8": (self.dim + 4) * vectors,
            "token vectors, fp16": 2 * self.dim * vectors,
        }


@dataclass(frozen=True)
class Machine:
    """What encodes: tokens a second, its price an hour, and where the speed is from."""

    name: str
    tokens_a_second: float
    price: float
    source: str


# Prices are assumptions, for orders of magnitude: put your own.
MACHINES = (
    Machine("2 cores without AMX, bf16", 1_055, 0.10, "measured, docs/performance.md"),
    Machine("2 cores without AMX, int8", 1_584, 0.10, "measured, docs/performance.md"),
    Machine("a GPU at 100,000 tokens/s", 100_000, 3.00, "assumed: measure yours with `benchmarks/gpu.py`"),
)
SHARD_ROWS = 10_000


def size(number: float) -> str:
    """Bytes for people.

    >>> size(4096), size(4.096e12)
    ('4.1 kB', '4.1 TB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} PB"


def bytes_table(corpus: Corpus) -> Iterator[str]:
    """What each column takes, of a passage, of a shard of 10,000 and of all passages."""
    yield f"| column | a passage | a shard of {SHARD_ROWS:,} | {corpus.passages:,.0f} passages |"
    yield "|---|---|---|---|"
    for name, each in corpus.bytes_a_passage().items():
        yield f"| {name} | {size(each)} | {size(each * SHARD_ROWS)} | {size(each * corpus.passages)} |"


def hours_table(corpus: Corpus, machines: tuple[Machine, ...]) -> Iterator[str]:
    """How long one machine takes, how many do it in a week, and the price of all its hours."""
    total = corpus.passages * corpus.tokens
    yield "| machine | tokens/s | passages/s | hours of one | machines for a week | a shard takes | cost | speed from |"
    yield "|---|---|---|---|---|---|---|---|"
    for machine in machines:
        hours = total / machine.tokens_a_second / 3600
        week = -(-hours // (7 * HOURS_A_DAY))
        shard = SHARD_ROWS * corpus.tokens / machine.tokens_a_second / 60
        cost = f"${hours * machine.price:,.0f} at ${machine.price:.2f} an hour"
        yield (
            f"| {machine.name} | {machine.tokens_a_second:,.0f} | {machine.tokens_a_second / corpus.tokens:,.3g} | "
            f"{hours:,.0f} | {week:,.0f} | {shard:.3g} min | {cost} | {machine.source} |"
        )


def tables(corpus: Corpus, machines: tuple[Machine, ...] = MACHINES) -> str:
    """Both tables as Markdown."""
    return "\n".join([*bytes_table(corpus), "", *hours_table(corpus, machines)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=float, default=Corpus.passages)
    parser.add_argument("--tokens", type=float, default=Corpus.tokens, help="of a passage")
    parser.add_argument("--tokens-a-second", type=float, help="of one machine of yours")
    parser.add_argument("--price", type=float, default=0.0, help="of an hour of it")
    options = parser.parse_args()
    machines = MACHINES
    if options.tokens_a_second:
        machines = (Machine("yours", options.tokens_a_second, options.price, "given"),)
    print(tables(Corpus(options.passages, options.tokens), machines), end="")


if __name__ == "__main__":
    main()
