"""Tokens a second of every peer on groups of texts, by turns and with the roof. What a group means is the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import report
import roof
from processes import Lineup
from session import Session

# Rows of the left matrix in the roof: 16 documents of 184 tokens.
ROOF_TOKENS = 2944


def measure(
    session: Session, lineup: Lineup, draw: Callable[[int], Mapping[Hashable, list[str]]]
) -> dict[Hashable, dict[str, Any]]:
    """Encode each group in one call, every round, and put the roof into the session's result.

    Args:
        session: The benchmark's.
        lineup: The loaded peers.
        draw: A round's number to the texts of each group.

    Returns:
        By group: "texts" a round, and of each peer by name tokens a second as in `report.summary`, with its
        "share_of_roof", which counts the operations of tokens without padding.
    """
    yardstick = session.roof()
    speeds: dict[Hashable, dict[str, list[float]]] = {}
    operations: dict[Hashable, dict[str, list[float]]] = {}
    counts: dict[Hashable, int] = {}
    for number in range(session.options.rounds):
        print(f"round {number + 1} of {session.options.rounds}", file=sys.stderr)
        yardstick.measure(ROOF_TOKENS)
        for group, texts in draw(number).items():
            counts[group] = len(texts)
            lengths = session.texts.lengths(texts)
            for name in lineup.turns(number):
                answer = lineup.ask(name, "encode", texts=texts)
                if answer:
                    done = speeds.setdefault(group, {n: [] for n in session.options.peers})
                    done[name].append(sum(lengths) / answer["seconds"])
                    work = roof.operations(lengths, session.config)
                    operations.setdefault(group, {}).setdefault(name, []).append(work / answer["seconds"])
    yardstick.close()
    session.note_peers(lineup)
    session.result["roof"] = yardstick.as_json()

    result = {}
    for group, rates in speeds.items():
        figures = report.summary(rates, session.ours())
        for name, of_peer in figures.items():
            precision = lineup.facts[name]["precision"]
            of_peer["share_of_roof"] = yardstick.share(name, ROOF_TOKENS, operations[group][name], precision)
        result[group] = {"texts_a_round": counts[group], "unit": "tokens/s", "peers": figures}
    return result


def medians(measured: Mapping[Hashable, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The median tokens a second by group and peer, for the last line."""
    return {str(g): {n: round(f["median"], 1) for n, f in of["peers"].items()} for g, of in measured.items()}
