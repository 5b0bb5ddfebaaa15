"""Pairs a second of trivec's cross-encoder beside FlagEmbedding's FlagReranker and sentence-transformers' CrossEncoder.

One query with 100 passages, 200 tokens a pair, as a search reranks its candidates; other texts every round. All have
the same random weights in the layout of BAAI/bge-reranker-v2-m3 and the same threads; each is a process of its own that
waits for its turn. Ratios are taken within a round. FlagReranker and CrossEncoder compute in float32, as they do on a
CPU; `torch-bf16` is CrossEncoder's model run in bfloat16. Everybody's scores are compared with CrossEncoder's:
FlagReranker decodes what it has tokenized and tokenizes that again, which the random weights' own small tokenizer does
not survive (the real one does: `--tokenizer`).

    .venv-parity/bin/python benchmarks/reranker.py                # full size: 2.3 GB of weights a peer, some minutes
    .venv-parity/bin/python benchmarks/reranker.py --size tiny    # a check of the script
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}

import machine
import report
from texts import Texts

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "benchmarks"
REFERENCE, STANDARD = "FlagReranker", "CrossEncoder"
OURS = ("trivec-fp32", "trivec-auto", "trivec-int8")
PEERS = (*OURS, REFERENCE, STANDARD, "torch-bf16")
QUERY_TOKENS = 16

Pairs = list[tuple[str, str]]
Scores = Callable[[Pairs], list[float]]


def loaded(name: str, checkpoint: str, threads: int) -> Scores:
    """Load a peer and return what scores pairs."""
    if name in OURS:
        from trivec import M3Reranker

        reranker = M3Reranker.load(checkpoint, precision=name.removeprefix("trivec-"), num_threads=threads)
        return lambda pairs: reranker.compute_score(pairs, show_progress=False)
    import torch

    torch.set_num_threads(threads)
    if name == REFERENCE:
        from FlagEmbedding import FlagReranker

        flag = FlagReranker(checkpoint, use_fp16=False, devices="cpu")
        return flag.compute_score
    from sentence_transformers import CrossEncoder

    model_kwargs = {"torch_dtype": torch.bfloat16} if name == "torch-bf16" else {}
    encoder = CrossEncoder(checkpoint, device="cpu", max_length=512, model_kwargs=model_kwargs)
    identity = torch.nn.Identity()
    return lambda pairs: encoder.predict(pairs, activation_fn=identity, show_progress_bar=False).tolist()


def work(name: str, checkpoint: str, threads: int) -> None:
    """Be a peer: load, say so, then score the pairs of each line that comes in."""
    out = os.fdopen(os.dup(1), "w")  # what libraries print is not an answer
    os.dup2(2, 1)
    try:
        scores = loaded(name, checkpoint, threads)
    except Exception as error:  # whatever it is, the table says it
        print(json.dumps({"unavailable": f"{type(error).__name__}: {error!s:.200}"}), file=out, flush=True)
        return
    print(json.dumps({}), file=out, flush=True)
    for line in sys.stdin:
        pairs = [(query, passage) for query, passage in json.loads(line)]
        began = time.perf_counter()
        found = scores(pairs)
        answer = {"seconds": time.perf_counter() - began, "scores": [float(one) for one in found]}
        print(json.dumps(answer), file=out, flush=True)


class Peer:
    """A peer's process, as seen from the one that asks."""

    def __init__(self, name: str, checkpoint: Path, threads: int) -> None:
        command = [
            sys.executable,
            __file__,
            "--worker",
            name,
            "--checkpoint",
            str(checkpoint),
            "--threads",
            str(threads),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.unavailable: str | None = self._answer().get("unavailable")

    def ask(self, pairs: Pairs) -> dict[str, Any]:
        """Return the seconds that scoring took, and the scores."""
        assert self._process.stdin
        print(json.dumps(pairs), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"unavailable": f"it ended with {self._process.wait()}"}


def drawn(texts: Texts, count: int, tokens: int, seed: int) -> Pairs:
    """One query with passages, so many tokens a pair."""
    draw = np.random.default_rng([7, seed])
    query = texts.of_length(QUERY_TOKENS, draw)
    (length,) = texts.lengths([query])
    # A text's length counts two special tokens, a pair's four.
    return [(query, texts.of_length(tokens - length, draw)) for _ in range(count)]


def weights(options: argparse.Namespace) -> Path:
    """The folder of weights: the one given, or random ones, written when first needed."""
    if options.checkpoint is not None:
        return options.checkpoint.resolve()
    folder = BUILD / f"reranker-{options.size}"
    if not (folder / "finished").exists():
        sys.path.append(str(ROOT / "tools"))
        from random_checkpoint import FULL_SIZE, TINY, write_random_checkpoint

        print(f"writing the {options.size} random checkpoint, once", file=sys.stderr)
        config = FULL_SIZE if options.size == "full" else TINY
        write_random_checkpoint(folder, config, tokenizer=options.tokenizer, classifier=1)
        (folder / "finished").touch()
    return folder


def main() -> None:
    """Measure, print a table, and write every round to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "full"], default="full")
    parser.add_argument("--checkpoint", type=Path, help="a folder of weights, instead of writing random ones")
    parser.add_argument("--tokenizer", type=Path, help="folder with a tokenizer.json for the random weights")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=200, help="of a pair")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, metavar="PEER")
    parser.add_argument("--output", type=Path, default=BUILD / "reranker.json")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, str(options.checkpoint), options.threads)
        return
    result: dict[str, Any] = {"benchmark": "reranker", "machine": machine.describe()}
    result |= {key: getattr(options, key) for key in ("size", "pairs", "tokens", "rounds", "threads")}
    checkpoint = weights(options)
    position = json.loads((checkpoint / "config.json").read_text())["max_position_embeddings"]
    texts = Texts(checkpoint, position - 2)
    peers = {name: Peer(name, checkpoint, options.threads) for name in options.peers}
    result["unavailable"] = {name: peer.unavailable for name, peer in peers.items() if peer.unavailable}
    names = [name for name, peer in peers.items() if not peer.unavailable]
    rates: dict[str, list[float]] = {name: [] for name in names}
    scores: dict[str, list[float]] = {}
    warm = drawn(texts, 4, options.tokens, seed=-1 % 2**32)
    for name in names:
        scores[name] = peers[name].ask(warm)["scores"]
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        pairs = drawn(texts, options.pairs, options.tokens, number)
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            answer = peers[name].ask(pairs)
            rates[name].append(len(pairs) / answer["seconds"])
            scores[name] += answer["scores"]
    for peer in peers.values():
        peer.close()
    ours = [name for name in OURS if name in rates]
    figures = report.summary(rates, ours)
    standard = scores.get(STANDARD) or scores[names[0]]
    for name, of_peer in figures.items():
        of_peer["score_difference"] = float(np.abs(np.array(scores[name]) - standard).max())
    result["peers"] = figures
    report.table(
        f"{options.pairs} pairs of {options.tokens} tokens, {options.threads} threads",
        ["peer", "pairs/s", *(f"{name} is times" for name in ours), "score difference"],
        [
            [name, of["median"], *(of["ours_is_times"][one]["median"] for one in ours), of["score_difference"]]
            for name, of in figures.items()
        ],
    )
    report.left_out(result["unavailable"])
    report.finish(result, {name: round(of["median"], 2) for name, of in figures.items()}, options.output)


if __name__ == "__main__":
    main()
