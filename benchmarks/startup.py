"""Seconds from nothing to the first vector: import, load, the first query. Every start is a process of its own.

The roof: the weights have to be read once (2.3 GB in float32 at full size; from the disk cache of the system here,
since every round reads them again) and put into the order that the processor's kernels want, about the time of copying
them: half a second to a second. An import can cost next to nothing.

trivec is started twice a round, with its cache folder empty and then filled: the first and the second load. The peers
keep no cache and are started once a round.

    python benchmarks/startup.py
    python benchmarks/startup.py --size tiny --rounds 2
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from typing import Any

import report
from peers import OURS
from processes import Lineup, PeerError, Worker
from session import Session, parser

STAGES = ("import", "load", "first_query", "total")


def started(session: Session, name: str, cache: str, query: str) -> dict[str, float]:
    """Start a peer, encode one query, stop it; seconds of each stage, and from starting the process to the vectors.

    Raises:
        PeerError: It does not start.
    """
    worker = session.start(name, {"TRIVEC_CACHE": cache})
    first_query = worker.ask("encode", texts=[query])["seconds"]
    session.result["peers"].setdefault(name, {key: worker.facts[key] for key in ("precision", "versions")})
    worker.close()
    total = worker.seconds_to_ready + first_query
    stages = {key: worker.facts[key] for key in ("import", "load")}
    return stages | {"first_query": first_query, "total": total}


def main() -> None:
    session = Session("startup", parser(__doc__).parse_args())
    session.result["peers"] = {}
    query = session.texts.questions(1, seed=0)[0]
    loads: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in session.options.peers}
    unavailable: dict[str, str] = {}

    def start_and_stop(name: str) -> Worker:
        """Bring files into the disk cache, so that no peer's first round reads them from the disk."""
        worker = session.start(name)
        worker.close()
        return worker

    with Lineup(session.options.peers, start_and_stop, room=float("inf")) as lineup:
        for number in range(session.options.rounds):
            print(f"round {number + 1} of {session.options.rounds}", file=sys.stderr)
            for name in lineup.turns(number):
                with tempfile.TemporaryDirectory() as cache:
                    try:
                        for load in ("first", "second") if name in OURS else ("second",):
                            loads[name].setdefault(load, []).append(started(session, name, cache, query))
                    except PeerError as error:
                        lineup.unavailable[name] = str(error)
        unavailable = lineup.unavailable

    session.result["peers"] |= {name: {"unavailable": reason} for name, reason in unavailable.items()}
    ours = session.ours()
    second = {name: of_peer.get("second", []) for name, of_peer in loads.items() if name not in unavailable}
    figures = report.summary({name: [1 / s["total"] for s in rounds] for name, rounds in second.items()}, ours)
    session.result["starts"] = {
        name: {"loads": medians(loads[name]), "rounds": loads[name], "ours_is_times": of_peer["ours_is_times"]}
        for name, of_peer in figures.items()
    }
    rows = [
        [name, load, *(of_load[stage] for stage in STAGES)]
        + [of_peer["ours_is_times"].get(o, {}).get("median") if load == "second" else None for o in ours]
        for name, of_peer in session.result["starts"].items()
        for load, of_load in of_peer["loads"].items()
    ]
    header = ["peer", "load", "import s", "load s", "first query s", "total s", *(f"{o} is x" for o in ours)]
    report.table(f"from starting the process to the first vectors, median of {session.options.rounds}", header, rows)
    report.left_out(unavailable)
    session.finish({"starts": {name: of_peer["loads"] for name, of_peer in session.result["starts"].items()}})


def medians(loads: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Of each load, the median of each stage."""
    return {
        load: {stage: round(statistics.median(one[stage] for one in rounds), 3) for stage in STAGES}
        for load, rounds in loads.items()
    }


if __name__ == "__main__":
    main()
