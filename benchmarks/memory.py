"""Resident memory: at its peak, when at rest, and how it grows while texts stream through.

The roof: the encoder's 302 million weights take 1.2 GB in float32, 0.6 GB in bfloat16 and 0.3 GB in int8; the 256
million of the word embeddings another 1 GB in float32 wherever the whole table is loaded. What else is resident are
activations (a batch of 4,096 tokens x 4,096 inner units is 67 MB) and libraries. The peak is that of the whole life
of the process, loading included. A page of a mapped file counts as resident though the system can drop it at
any time: "not files" leaves those out.

Each peer has the machine to itself, once, for there is nothing to alternate; streaming reads texts of 5 to 128 tokens,
and growth is the peak while streaming less what was resident before.

    python benchmarks/memory.py
    python benchmarks/memory.py --long 8192
    python benchmarks/memory.py --peers trivec-auto --stream 1000 10000 100000
    python benchmarks/memory.py --size tiny
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import report
from peers import PEERS
from processes import PeerError, Worker
from session import Session, parser


def measured(worker: Worker, session: Session) -> dict[str, Any]:
    """Memory of one loaded peer, in MB.

    Raises:
        PeerError: It failed.
    """
    loaded = worker.ask("memory")
    worker.ask("encode", texts=session.texts.paragraphs(session.options.documents, seed=1))
    encoded = worker.ask("memory")
    long = {}
    for tokens in session.options.long:
        text = session.texts.of_length(tokens, np.random.default_rng(5))
        worker.ask("forget_peak")
        seconds = worker.ask("encode", texts=[text])["seconds"]
        long[str(tokens)] = {"peak_growth": worker.ask("memory")["peak"] - encoded["now"], "seconds": seconds}
    growth = {}
    texts = session.texts.mixed(4096, seed=1, longest=128) if session.options.stream else []
    for count in session.options.stream:
        worker.ask("stream", texts=texts, count=100)
        before = worker.ask("memory")
        worker.ask("forget_peak")
        seconds = worker.ask("stream", texts=texts, count=count)["seconds"]
        after = worker.ask("memory")
        growth[str(count)] = {
            "peak_growth": after["peak"] - before["now"],
            "growth_not_files": after["anonymous"] - before["anonymous"],
            "texts_a_second": count / seconds,
        }
    return {"loaded": loaded, "encoded": encoded, "long": long, "streaming": growth}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--documents", type=int, default=24, help="texts encoded before memory is read")
    options.add_argument("--stream", type=int, nargs="*", default=[1000], help="numbers of texts to stream")
    options.add_argument("--long", type=int, nargs="*", default=[], help="lengths of single texts to encode, in tokens")
    session = Session("memory", options.parse_args())
    session.result |= {"rounds": 1, "documents": session.options.documents, "unit": "MB (10^6 bytes)", "peers": {}}
    unavailable: dict[str, str] = {}
    for name in session.options.peers:
        print(name, file=sys.stderr)
        try:
            worker = session.start(name)
            figures = measured(worker, session)
        except PeerError as error:
            unavailable[name] = str(error)
            session.result["peers"][name] = {"unavailable": str(error)}
            continue
        worker.close()
        facts = {key: worker.facts[key] for key in ("precision", "versions")}
        session.result["peers"][name] = facts | {"environment": PEERS[name].environment} | figures

    lengths = [str(length) for length in session.options.long]
    counts = [str(count) for count in session.options.stream]
    rows = [
        [name, f["precision"], f["encoded"]["peak"], f["encoded"]["now"], f["encoded"]["anonymous"]]
        + [f["long"][length]["peak_growth"] for length in lengths]
        + [f["streaming"][count]["peak_growth"] for count in counts]
        for name, f in session.result["peers"].items()
        if "unavailable" not in f
    ]
    growths = [f"growth, {n} tokens" for n in lengths] + [f"growth, {n} texts" for n in counts]
    header = ["peer", "precision", "peak", "at rest", "not files", *growths]
    report.table(f"MB resident, dense and sparse vectors of {session.options.documents} documents", header, rows)
    report.left_out(unavailable)
    session.finish({"peak_mb": {row[0]: round(row[2]) for row in rows}})


if __name__ == "__main__":
    main()
