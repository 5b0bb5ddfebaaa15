"""Tables for people, JSON for scripts. Knows no benchmark."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def summary(rates: Mapping[str, Sequence[float]], ours: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The median of each peer, and how many times faster each of ours was, round by round.

    Args:
        rates: A rate (more is better) for each round of each peer, by name.
        ours: The names to compare the others with.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, values in rates.items():
        if not values:
            continue
        times = {o: [a / b for a, b in zip(rates[o], values, strict=False)] for o in ours if rates.get(o)}
        result[name] = {
            "rounds": list(values),
            "median": statistics.median(values),
            "ours_is_times": {o: {"rounds": v, "median": statistics.median(v)} for o, v in times.items()},
        }
    return result


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, numbers to three digits, the first column to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [list(header), ["-" * width for width in widths], *cells]:
        first, *rest = row
        print("  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]))


def percent(share: float | None) -> str | None:
    """A share for a table."""
    return None if share is None else f"{share:.0%}"


def cosine(value: float | None) -> str | None:
    """A cosine for a table, to the digits that matter."""
    return None if value is None else f"{value:.5f}"


def left_out(unavailable: Mapping[str, str]) -> None:
    """Print who did not take part, and why."""
    for name, reason in unavailable.items():
        print(f"{name}: not measured, {reason}")


def roof(measured: Mapping[str, Any]) -> None:
    """Print what `roof.Roof.as_json` says."""
    if measured["unavailable"]:
        print(f"the roof: not measured, {measured['unavailable'].splitlines()[0]}")
    for key, figure in measured["gigaops"].items():
        print(f"roof, {key}: {figure['median']:.0f} x 10^9 operations/s")


def finish(result: dict[str, Any], digest: dict[str, Any], path: Path) -> None:
    """Write everything to a file, whole or not at all, and print the essence as the last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    print(f"\n{json.dumps({'benchmark': result['benchmark'], 'file': path.name} | digest)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
