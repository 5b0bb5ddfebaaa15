"""Puts measured figures into docs/performance.md: tables from the benchmarks' JSON files, and a plot.

Everything between the page's markers is written here, from the files given and nothing else; the same, in English, into
the Japanese page.

    python benchmarks/publish.py build/benchmarks/{throughput,latency,startup,memory,scaling}.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from peers import OURS

DOCS = Path(__file__).parents[1] / "docs"
PAGES, PLOT = (DOCS / "performance.md", DOCS / "performance.ja.md"), DOCS / "performance-lengths.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# The server's figures stand apart, and come from files of their own.
SERVER_BEGIN, SERVER_END = "<!-- server: begin -->", "<!-- server: end -->"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a Markdown table's lines; numbers with three digits that count."""
    yield "| " + " | ".join(header) + " |"
    yield "|---" + "|---:" * (len(header) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(map(number, row)) + " |"
    yield ""


def number(value: object) -> str:
    """Format a cell."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def surroundings(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield where, when and with which versions it was measured."""
    machine = results[0]["machine"]
    dates = sorted(result["machine"]["date"] for result in results)
    versions: dict[str, str] = {}
    for result in results:
        for facts in result["peers"].values():
            versions |= facts.get("versions", {})
    yield (
        f"{machine['processor']} (family/model {machine['family_model']}; {', '.join(machine['instructions'])}), "
        f"{machine['cores']} cores, {machine['memory_gb']:.0f} GB; {dates[0][:16]} to {dates[-1][11:16]} UTC."
    )
    yield ""
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + "."
    yield ""
    rates: dict[str, list[float]] = {}
    for result in results:
        for kind, of_kind in result.get("roof", {}).get("gigaops", {}).items():
            rates.setdefault(kind, []).append(of_kind["median"])
    yield "Products of the same shapes through oneDNN, GFLOP/s, the median of each run: " + "; ".join(
        f"{kind}: {', '.join(f'{rate:.0f}' for rate in of_kind)}" for kind, of_kind in rates.items()
    )
    yield ""


def throughput(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table a scenario."""
    for scenario, content in result["scenarios"].items():
        yield f"### {scenario}: tokens/s, {content['texts_a_round']} texts a call, {result['rounds']} rounds"
        yield ""
        rows = [
            [name, result["peers"][name]["precision"], of["median"], share(of), *times(of), cosine(result, name)]
            for name, of in content["peers"].items()
        ]
        header = ["", "precision", "tokens/s", "of the roof", *(f"{o} is x" for o in OURS), "dense cosine"]
        yield from table(header, rows)
    padding = result["padding_share_mixed"]
    yield f"Padding in batches of mixed texts (5 to 2,000 tokens), by the plan of 1,024 of them: {padding:.1%}."
    yield ""


def latency(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table for each number of callers."""
    for callers, of_peers in result["callers"].items():
        yield f"### One query of 16 tokens, {callers} calling: ms, {result['rounds']} rounds"
        yield ""
        rows = [
            [name, result["peers"][name]["precision"], of["overall"]["p50"], of["overall"]["p95"], *times(of)]
            for name, of in of_peers.items()
        ]
        yield from table(["", "precision", "p50", "p95", *(f"{o} is x" for o in OURS)], rows)


def startup(result: dict[str, Any]) -> Iterator[str]:
    """Yield the seconds of each stage."""
    yield f"### Start: seconds, medians of {result['rounds']} processes"
    yield ""
    stages = ("import", "load", "first_query", "total")
    rows = [
        [name, which, *(stages_of[stage] for stage in stages)]
        for name, of in result["starts"].items()
        for which, stages_of in of["loads"].items()
    ]
    yield from table(["", "load", "import", "load", "first query", "from nothing to a vector"], rows)


def memory(result: dict[str, Any]) -> Iterator[str]:
    """Yield resident memory."""
    there = {name: of for name, of in result["peers"].items() if "unavailable" not in of}
    shape = f"{result['weights']['num_hidden_layers']} x {result['weights']['hidden_size']}"
    yield f"### Resident memory, MB: {shape}, {result['documents']} documents encoded"
    yield ""
    extra = sorted({("long", k) for of in there.values() for k in of["long"]})
    extra += sorted({("streaming", k) for of in there.values() for k in of["streaming"]}, key=lambda key: int(key[1]))
    names = {"long": "growth with one text of {} tokens", "streaming": "growth while streaming {} texts"}
    rows = [
        [name, of["precision"], of["encoded"]["peak"], of["encoded"]["now"], of["encoded"]["anonymous"]]
        + [of[kind].get(key, {}).get("peak_growth") for kind, key in extra]
        for name, of in there.items()
    ]
    header = ["", "precision", "peak", "at rest", "not files", *(names[kind].format(key) for kind, key in extra)]
    yield from table(header, rows)


def scaling(result: dict[str, Any]) -> Iterator[str]:
    """Yield tokens/s by length and by size of the corpus."""
    for axis, title in (("length", "tokens of a text"), ("corpus", "texts of 16 tokens in the corpus")):
        of_axis = result.get(axis, {})
        if of_axis:
            names = list(next(iter(of_axis.values()))["peers"])
            yield f"### tokens/s by {title}, {result['rounds']} rounds"
            yield ""
            yield from table([title, *names], ([x, *medians(content, names)] for x, content in of_axis.items()))


# Of the server's scenarios: the title, the three figures, and what was aimed for.
SERVED = {
    "one": ("one short query, 1 client: ms", "in_process_ms", "served_ms", "extra_ms", "2 ms more at most"),
    "clients": ("short queries, 64 clients: texts/s", "in_process", "served", "share", "0.90"),
    "bulk": ("requests of 1,000 texts, 2 clients: texts/s", "in_process", "served", "share", "0.95"),
    "meanwhile": ("short queries beside bulk: a batch, p99, ms", "batch_ms", "p99_ms", "p99_in_batches", "3 batches"),
}


def server(result: dict[str, Any]) -> Iterator[str]:
    """Yield what HTTP costs, and the servers beside each other."""
    machine = result["machine"]
    yield f"### The server, `{result['model']}`: {result['threads']} threads, {result['rounds']} rounds"
    yield ""
    instructions, load = ", ".join(machine["instructions"]), machine["load_before"][0]
    where = f"{machine['processor']} ({instructions}), {machine['cores']} cores; {machine['date'][:16]} UTC"
    yield f"{where}, load {load:.1f} before. The client alone does {result['client_alone']:,.0f} requests/s."
    yield ""
    found = [(name, of["median"]) for name, of in result["scenarios"].items()]
    if found:
        rows = [[SERVED[name][0], *(of[key] for key in SERVED[name][1:4]), SERVED[name][4]] for name, of in found]
        yield from table(["", "in-process", "served", "difference or ratio", "aim"], rows)
    peers = result.get("peers", {}).get("peers", {})
    for clients in ("1", "32") if peers else ():
        header = [
            f"{clients} clients",
            "gives",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "trivec-auto is x",
            "failed",
            "cosine",
        ]
        keys = ("rate", "p50_ms", "p99_ms", "trivec_is_times")
        yield from table(
            header,
            (
                [
                    name,
                    of["gives"],
                    *(of[clients][key] for key in keys),
                    sum(of[clients]["failed"].values()),
                    cut(of["cosine"]),
                ]
                for name, of in peers.items()
            ),
        )


def medians(content: dict[str, Any], names: Sequence[str]) -> list[float | None]:
    """Median tokens/s of each peer, None for one that was not measured."""
    return [content["peers"].get(name, {}).get("median") for name in names]


def times(of_peer: dict[str, Any]) -> list[float | None]:
    """How many times as fast ours are, as the median over rounds of ratios within a round."""
    return [of_peer["ours_is_times"].get(name, {}).get("median") for name in OURS]


def share(of_peer: dict[str, Any]) -> str | None:
    """Share of the roof."""
    return None if of_peer["share_of_roof"] is None else f"{of_peer['share_of_roof']:.0%}"


def cosine(result: dict[str, Any], name: str) -> str:
    """Worst cosine with the reference."""
    return cut(result["peers"][name].get("dense_cosine"))


def cut(value: float | None) -> str:
    """Format a cosine: cut and not rounded, so that nobody is as exact as 1 who is not."""
    return "" if value is None else f"{int(value * 1e5) / 1e5:.5f}" if value < 1 - 1e-6 else "1"


def plot(results: Sequence[dict[str, Any]]) -> None:
    """Draw tokens/s against the length of texts."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "trivec"
    from matplotlib import pyplot

    lines: dict[str, dict[int, float]] = {}
    for result in results:
        for length, content in result.get("length", {}).items():
            for name, of_peer in content["peers"].items():
                lines.setdefault(name, {})[int(length)] = of_peer["median"]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, points in lines.items():
        lengths = sorted(points)
        axes.plot(lengths, [points[n] for n in lengths], "o-" if name in OURS else "s--", label=name, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set(xlabel="tokens of a text", ylabel="tokens a second")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


SECTIONS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "throughput": throughput,
    "latency": latency,
    "startup": startup,
    "memory": memory,
    "scaling": scaling,
}


def replace_between(begin: str, end: str, lines: Iterable[str]) -> None:
    """Put lines between two markers of the page, in each language."""
    written = "\n".join(lines)
    for page in PAGES:
        before, rest = page.read_text(encoding="utf-8").split(begin)
        after = rest.split(end)[1]
        page.write_text(f"{before}{begin}\n{written}{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files that benchmarks wrote, in the page's order")
    results = [json.loads(path.read_text()) for path in parser.parse_args().results]
    of_server = [result for result in results if result["benchmark"] == "server"]
    results = [result for result in results if result["benchmark"] != "server"]
    if results:
        written = [line for result in results for line in SECTIONS[result["benchmark"]](result)]
        replace_between(BEGIN, END, [*surroundings(results), *written])
    if of_server:
        replace_between(SERVER_BEGIN, SERVER_END, [line for result in of_server for line in server(result)])
    if any(result.get("length") for result in results):
        plot(results)


if __name__ == "__main__":
    main()
