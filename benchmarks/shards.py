"""A large corpus into a folder of shards: killed and gone on with, loaded into Milvus Lite, and in flat memory.

    python benchmarks/shards.py                       # 100,000 passages with nano: kills, load, memory
    python benchmarks/shards.py --passages 5000 kills memory

kills   two processes share a folder and are killed five times, at random, each time begun again; the folder must then
        be complete and undamaged. With `load`, it is loaded into Milvus Lite, must hold as many rows as there are
        passages, and every tenth passage must be found by its own text: by its dense vector, and every hundredth by
        hybrid search, which takes Milvus Lite several times as long.
memory  one process, token vectors as float16: how far its own memory (not files it maps) grows, from the model loaded,
        and from the first shard written, to its greatest.

Passages are a few sentences of a language and made-up words behind a number; the same seed gives the same corpus.
(Without the made-up words, thousands of passages would have the same sentences and differ in their number alone: a text
then finds others as good as itself.)
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import report
from weights import BUILD

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from sample_texts import SENTENCES

KILLS = 5
LOOK_AGAIN = 0.02  # seconds
FOUND_AT_ONCE = 500


def passages(count: int) -> Iterator[tuple[str, str]]:
    """Ids and texts: a number, one to four sentences of a language, and five to ten made-up words."""
    draw = random.Random(13)
    languages = list(SENTENCES.values())
    syllables = [consonant + vowel for consonant in "bdfghjklmnprstvwz" for vowel in "aeiou"]
    for i in range(count):
        sentences = draw.choices(draw.choice(languages), k=draw.randint(1, 4))
        words = ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(draw.randint(5, 10))]
        yield f"p{i}", f"{i}: {' '.join([*sentences, *words])}"


def write_corpus(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for identifier, text in passages(count):
            stream.write(json.dumps({"id": identifier, "text": text}) + "\n")


def trivec(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "trivec", *map(str, arguments)]


def said(command: list[str]) -> str:
    """Run a command and return its last line on stderr.

    Raises:
        SystemExit: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}{done.stdout}")
    return done.stderr.strip().splitlines()[-1]


def shards_of(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.parquet"))


def kills(folder: Path, encode: list[str], seconds_between: float) -> dict[str, Any]:
    """Two processes encode; one or the other is killed a random time after a new shard, five times."""
    draw = random.Random(0)
    began = time.perf_counter()
    running: list[subprocess.Popen[bytes]] = []
    killed = []
    while True:
        while len(killed) < KILLS and len(running) < 2:
            running.append(subprocess.Popen(encode, stderr=subprocess.DEVNULL))
        if len(killed) == KILLS:
            break
        before = shards_of(folder)
        while shards_of(folder) == before and all(process.poll() is None for process in running):
            time.sleep(LOOK_AGAIN)
        time.sleep(draw.uniform(0, seconds_between))
        victim = draw.choice(running)
        victim.kill()
        if victim.wait() == -signal.SIGKILL:
            killed.append(shards_of(folder))
        else:
            sys.exit(f"all was encoded after {len(killed)} kills: take more passages")
        running.remove(victim)
    last = said(encode)
    for process in running:
        process.wait()
    return {
        "seconds": time.perf_counter() - began,
        "shards_at_kills": killed,
        "last_run": last,
        "check": said(trivec("encode", "--check", folder)),
        "part_files_left": sum(1 for _ in folder.glob(".*.part")),
    }


def load(folder: Path, work: Path, count: int) -> dict[str, Any]:
    """Load the folder into Milvus Lite and look for every tenth passage by its own text."""
    uri = work / "milvus.db"
    began = time.perf_counter()
    last = said(trivec("import", folder, "--uri", uri, "--collection", "passages"))
    loaded = time.perf_counter() - began
    return {"seconds": loaded, "said": last, **found_again(uri, count)}


def found_again(uri: Path, count: int) -> dict[str, Any]:
    """Look for every tenth passage by its own text."""
    from trivec import M3Model
    from trivec.milvus import M3Collection

    result: dict[str, Any] = {}
    with M3Model.load("nano") as model, M3Collection("passages", model, uri=str(uri)) as collection:
        result["rows"] = collection.count()
        for mode, every in (("dense", 10), ("hybrid", 100)):
            texts = [text for i, (_, text) in enumerate(passages(count)) if i % every == 0]
            missed = []
            for start in range(0, len(texts), FOUND_AT_ONCE):
                asked = texts[start : start + FOUND_AT_ONCE]
                found = collection.search(asked, mode, limit=3)
                missed += [text for text, hits in zip(asked, found, strict=True) if text not in [h.text for h in hits]]
            result[mode] = {"asked": len(texts), "found": len(texts) - len(missed), "missed": missed[:10]}
            print(json.dumps(result), flush=True)
    return result


def memory(folder: Path, encode: list[str]) -> dict[str, Any]:
    """Megabytes of the process's own memory, while it encodes."""
    at: dict[str, float] = {}
    greatest = 0.0
    began = time.perf_counter()
    with subprocess.Popen(encode, stderr=subprocess.DEVNULL) as process:
        marks: dict[str, Callable[[], bool]] = {
            "model_loaded": (folder / "_manifest.json").exists,
            "first_shard": lambda: shards_of(folder) > 0,
        }
        while process.poll() is None:
            own = _own_memory(process.pid)
            for name, reached in marks.items():
                if name not in at and reached():
                    at[name] = max(own, greatest if name == "first_shard" else 0)
            greatest = max(greatest, own)
            time.sleep(LOOK_AGAIN)
    if process.returncode:
        sys.exit("it failed: run it by hand")
    return {
        "seconds": time.perf_counter() - began,
        "shards": shards_of(folder),
        "bytes": sum(file.stat().st_size for file in folder.glob("*.parquet")),
        "greatest_mb": greatest,
        "grown_since_model_loaded_mb": greatest - at["model_loaded"],
        "grown_since_first_shard_mb": greatest - at["first_shard"],
    }


def _own_memory(pid: int) -> float:
    """Anonymous memory in MB; 0 once the process is ending."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help="kills, load (needs kills), memory; all if none")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument(
        "--seconds-between", type=float, default=5.0, help="longest time from a new shard to the next kill"
    )
    parser.add_argument("--output", type=Path, default=BUILD / "shards.json")
    options = parser.parse_args()
    parts = options.parts or ["kills", "load", "memory"]
    if unknown := set(parts) - {"kills", "load", "memory"}:
        parser.error(f"no part {unknown.pop()!r}")
    work = BUILD / f"shards-{time.strftime('%Y%m%d-%H%M%S')}"
    work.mkdir(parents=True)
    corpus = work / "passages.jsonl"
    write_corpus(corpus, options.passages)
    result: dict[str, Any] = {"benchmark": "shards", "passages": options.passages, "machine": machine.describe()}
    common = ["encode", corpus, "-m", "nano", "--shard-rows", options.shard_rows]
    if "kills" in parts:
        folder = work / "vectors"
        result["kills"] = kills(folder, trivec(*common, "--threads", 1, "--out", f"{folder}/"), options.seconds_between)
        print(json.dumps(result["kills"], indent=1))
    if "load" in parts:
        result["load"] = load(work / "vectors", work, options.passages)
        print(json.dumps(result["load"], indent=1))
    if "memory" in parts:
        folder = work / "tokens"
        result["memory"] = memory(folder, trivec(*common, "--token-vectors", "fp16", "--out", f"{folder}/"))
        print(json.dumps(result["memory"], indent=1))
    report.finish(result, {name: result[name] for name in parts}, options.output)


if __name__ == "__main__":
    main()
