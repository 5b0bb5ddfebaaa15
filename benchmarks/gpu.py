"""trivec's torch engine on a GPU beside FlagEmbedding in float16: speed, one query, memory, parity.

The roof: a token costs 604 million operations at full size (`roof.py`), nearly all in products of large matrices. The
yardstick is the rate of one square product of 8192 x 8192 matrices in bfloat16, measured in every round on the same
device; no encoder reaches it, for softmax, layer norms and smaller matrices take their time too. The share counts the
operations of real tokens only, so padding shows as distance. A single query is bounded by launching some 300 kernels.

FlagEmbedding is given its best batch size, found once for every kind of text; memory is measured with the 16 that both
have from pymilvus. Both are in this process and encode by turns, other texts every round, up to the model's longest.
That takes a Python with trivec, FlagEmbedding and a torch for this GPU, such as `make parity` sets up.

    .venv-parity/bin/python benchmarks/gpu.py                                 # full size, cuda:0
    .venv-parity/bin/python benchmarks/gpu.py --device cpu --size tiny        # a check of the script, without a GPU
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}

import torch

import report
import roof
from session import ROUNDS, Session
from trivec import M3Embeddings, M3Model

HEADS = {"dense": (True, False, False), "dense + sparse": (True, True, False), "all three": (True, True, True)}
USUAL = "dense + sparse"
# Texts a round, and the batch sizes that FlagEmbedding is tried with.
COUNTS = {
    "full": {"documents": 2048, "mixed": 512, "longest": 16, "queries": 200, "compared": 64, "in one call": 64},
    "tiny": {"documents": 24, "mixed": 12, "longest": 2, "queries": 10, "compared": 12, "in one call": 4},
}
BATCH_SIZES = {
    "full": {"documents": (32, 128, 512), "mixed": (16, 64, 256), "longest": (1, 4, 16)},
    "tiny": {"documents": (8, 24), "mixed": (4, 12), "longest": (1, 2)},
}
REFERENCE = "FlagEmbedding"


class Ours:
    """trivec in one precision."""

    def __init__(self, session: Session, precision: str) -> None:
        device = session.options.device
        self.model = M3Model.load(session.checkpoint, device=device, engine="torch", precision=precision)
        self.precision = self.model.precision

    def encode(self, texts: list[str], heads: tuple[bool, bool, bool], _kind: str = "") -> M3Embeddings:
        """Encode in one call; it has one way for texts of any kind."""
        dense, sparse, colbert = heads
        wanted = {"return_dense": dense, "return_sparse": sparse, "return_colbert_vecs": colbert}
        return self.model.encode(texts, show_progress=False, **wanted)

    def close(self) -> None:
        """Give memory back."""
        self.model.close()


class Reference:
    """FlagEmbedding, in float16 on a GPU and in float32 on a CPU, where it has nothing else."""

    def __init__(self, session: Session) -> None:
        from FlagEmbedding import BGEM3FlagModel

        device = session.options.device
        self.precision = "fp16" if device.startswith("cuda") else "fp32"
        self.model: Any = BGEM3FlagModel(str(session.checkpoint), use_fp16=self.precision == "fp16", devices=device)
        self.max_length = session.max_length
        self.batch_sizes: dict[str, int] = {}

    def encode(self, texts: list[str], heads: tuple[bool, bool, bool], kind: str = "") -> Any:
        """Encode in one call, in batches of the size set for the kind of text, or 16."""
        dense, sparse, colbert = heads
        wanted = {"return_dense": dense, "return_sparse": sparse, "return_colbert_vecs": colbert}
        size = self.batch_sizes.get(kind, 16)
        return self.model.encode(texts, batch_size=size, max_length=self.max_length, **wanted)

    def close(self) -> None:
        """Give memory back."""
        self.model = None


def main() -> None:
    session = Session("gpu", options())
    here = session.options
    on_gpu = here.device.startswith("cuda")
    torch.set_num_threads(here.threads)
    counts = COUNTS[here.size]
    precisions = here.precisions or (["bf16", "fp16"] if on_gpu else ["fp32", "bf16"])
    session.result |= {
        "device": torch.cuda.get_device_name(here.device) if on_gpu else "cpu",
        "torch": torch.__version__,
        "counts": counts,
    }
    starts: dict[str, Callable[[], Ours | Reference]] = {
        f"trivec-{p}": lambda precision=p: Ours(session, precision) for p in precisions
    }
    starts[REFERENCE] = lambda: Reference(session)
    unavailable: dict[str, str] = {}

    parity(session, precisions)
    memory: dict[str, Any] = {}
    contenders: dict[str, Ours | Reference] = {}
    for name, start in starts.items():
        print(f"loading {name}", file=sys.stderr)
        try:
            contenders[name] = start()
        except ImportError as error:
            unavailable[name] = str(error)
            continue
        if on_gpu:
            memory[name] = peaks(session, contenders.pop(name))
    session.result["memory_gb"] = memory
    if on_gpu:  # measured one at a time; now all are loaded again, to take turns
        contenders = {name: start() for name, start in starts.items() if name not in unavailable}

    reference = contenders.get(REFERENCE)
    if isinstance(reference, Reference):
        reference.batch_sizes = best_batch_sizes(session, reference)
        session.result["best_batch_sizes"] = reference.batch_sizes
    speeds, milliseconds, rates = measure(session, contenders)
    session.result["unavailable"] = unavailable
    session.result["gemm_gigaops"] = {"rounds": [r / 1e9 for r in rates], "median": statistics.median(rates) / 1e9}
    show(session, speeds, milliseconds, contenders)
    report.left_out(unavailable)
    if not on_gpu:
        print("memory: measured on CUDA GPUs only")
    fast = next(iter(contenders))
    session.finish(
        {
            "device": session.result["device"],
            "precision": contenders[fast].precision,
            "documents_a_second": round(session.result["speed"]["documents"][USUAL][fast]["documents_a_second"], 1),
            "query_p50_ms": round(session.result["query_ms"][fast]["p50"], 2),
        }
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:0 if not given")
    parser.add_argument("--size", choices=["tiny", "full"], default="full", help="tiny: a check in a minute or two")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "fp16", "bf16"], help="of trivec")
    parser.add_argument("--checkpoint", type=Path, help="a folder of weights, instead of writing random ones")
    parser.add_argument("--tokenizer", type=Path, help="folder with a tokenizer.json for the random weights")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS['full']} if not given, {ROUNDS['tiny']} with --size tiny")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch on the CPU")
    parser.add_argument("--output", type=Path, help="JSON; build/benchmarks/gpu.json if not given")
    return parser.parse_args()


def draw(session: Session, kind: str, seed: int) -> list[str]:
    """Texts of a kind: paragraphs of 184 tokens, mixed ones of 5 to 2,000, or of the model's longest."""
    count = COUNTS[session.options.size][kind]
    if kind == "documents":
        return session.texts.paragraphs(count, seed)
    if kind == "mixed":
        return session.texts.mixed(count, seed)
    generator = np.random.default_rng([4, seed])
    return [session.texts.of_length(session.max_length, generator) for _ in range(count)]


def parity(session: Session, precisions: list[str]) -> None:
    """Compare the device in float32 and in the precisions asked for with the OpenVINO engine in float32."""
    texts = [*session.texts.mixed(COUNTS[session.options.size]["compared"], seed=0), ""]
    with M3Model.load(session.checkpoint, engine="openvino", precision="fp32") as exact:
        wanted = exact.encode(texts, return_colbert_vecs=True, show_progress=False)
    found = {}
    for precision in dict.fromkeys(["fp32", *precisions]):
        ours = Ours(session, precision)
        got = ours.encode(texts, HEADS["all three"])
        ours.close()
        tokens = list(zip(got.colbert_vecs, wanted.colbert_vecs, strict=True))
        found[precision] = {
            "dense": float(np.abs(got.dense - wanted.dense).max()),
            "sparse": float(abs(got.sparse - wanted.sparse).max()),
            "token vectors": max(float(np.abs(a - b).max()) for a, b in tokens),
            "dense cosine": float((got.dense * wanted.dense).sum(axis=1).min()),
            "token cosine": min(float((a * b).sum(axis=1).min()) for a, b in tokens),
        }
    session.result["parity"] = found
    rows = [
        [p, *(f"{f[k]:.1e}" for k in ("dense", "sparse", "token vectors"))]
        + [report.cosine(f[k]) for k in ("dense cosine", "token cosine")]
        for p, f in found.items()
    ]
    header = ["precision", "dense", "sparse", "token vectors", "dense cosine", "token cosine"]
    compared = f"{len(texts)} texts, {wanted.sparse.nnz} lexical weights"
    report.table(f"largest difference to OpenVINO in float32, and the worst cosine: {compared}", header, rows)


def peaks(session: Session, contender: Ours | Reference) -> dict[str, float | str]:
    """Memory of the GPU in GB (10^9 bytes): of the weights, at most for a long text, and for many in one call."""
    device = session.options.device
    many = COUNTS[session.options.size]["in one call"]
    contender.encode(["a"], HEADS[USUAL])  # FlagEmbedding takes its weights to the device only now
    found: dict[str, float | str] = {"weights": torch.cuda.memory_allocated(device) / 1e9}
    generator = np.random.default_rng(5)
    longest = [session.texts.of_length(session.max_length, generator) for _ in range(many)]
    for what, texts in (("one text", longest[:1]), ("many texts", longest)):
        torch.cuda.reset_peak_memory_stats(device)
        try:
            contender.encode(texts, HEADS[USUAL])
            found[what] = torch.cuda.max_memory_allocated(device) / 1e9
        except torch.OutOfMemoryError as error:
            found[what] = f"out of memory: {error}"
    contender.close()
    gc.collect()
    torch.cuda.empty_cache()
    found["after close"] = torch.cuda.memory_allocated(device) / 1e9
    return found


def best_batch_sizes(session: Session, reference: Reference) -> dict[str, int]:
    """FlagEmbedding's fastest batch size for each kind of text, by the better of two calls, after a few to warm up."""
    best = {}
    for kind, sizes in BATCH_SIZES[session.options.size].items():
        texts = draw(session, kind, seed=0)
        reference.encode(texts[:4], HEADS[USUAL])
        took = {}
        for size in sizes:
            reference.batch_sizes = {kind: size}
            took[size] = min(seconds(reference.encode, texts, HEADS[USUAL], kind) for _ in range(2))
        best[kind] = min(took, key=lambda size: took[size])
        print(f"{REFERENCE}, {kind}: batch size {best[kind]}", file=sys.stderr)
    return best


def measure(session: Session, contenders: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[float]], list[float]]:
    """Take turns: seconds, tokens and operations of each round by kind, heads and name; of queries; the yardstick."""
    kinds = list(BATCH_SIZES[session.options.size])
    speeds: dict[str, Any] = {kind: {heads: {n: [] for n in contenders} for heads in HEADS} for kind in kinds}
    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    rates: list[float] = []
    for number in range(session.options.rounds + 1):
        print(f"round {number} of {session.options.rounds}" if number else "warming up", file=sys.stderr)
        rate = square_product(session.options.device)
        shift = number % len(contenders)
        names = [*contenders][shift:] + [*contenders][:shift]
        for kind in kinds:
            texts = draw(session, kind, seed=number + 1)
            lengths = session.texts.lengths(texts)
            for heads, wanted in HEADS.items():
                for name in names:
                    took = seconds(contenders[name].encode, texts, wanted, kind)
                    if number:
                        share = roof.operations(lengths, session.config) / took / rate
                        speeds[kind][heads][name].append((len(texts) / took, sum(lengths) / took, share))
        queries = session.texts.questions(COUNTS[session.options.size]["queries"], seed=number + 1)
        for name in names:
            of_calls = [seconds(contenders[name].encode, [query], HEADS[USUAL]) for query in queries]
            milliseconds[name] += [1e3 * took for took in of_calls] if number else []
        rates += [rate] if number else []
    return speeds, milliseconds, rates


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """How long a call takes; it returns arrays on the host, so nothing is left to wait for."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def square_product(device: str) -> float:
    """Operations a second of a square bfloat16 product: 8192 on a side, 1024 on a CPU; the median of 20 after 3."""
    side = 8192 if device.startswith("cuda") else 1024
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def product() -> None:
        _ = a @ b
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return 2 * side**3 / statistics.median([seconds(product) for _ in range(23)][3:])


def show(
    session: Session, speeds: dict[str, Any], milliseconds: dict[str, list[float]], contenders: dict[str, Any]
) -> None:
    """Put medians into the result, and print the tables."""
    session.result["speed"] = {}
    for kind, of_heads in speeds.items():
        session.result["speed"][kind] = {}
        rows = []
        for heads, rounds in of_heads.items():
            documents = {name: [values[0] for values in measured] for name, measured in rounds.items()}
            times = report.summary(documents, [name for name in rounds if name != REFERENCE])
            session.result["speed"][kind][heads] = {}
            for name, measured in rounds.items():
                per_second, tokens, share = (statistics.median(v) for v in zip(*measured, strict=True))
                against = times.get(REFERENCE, {}).get("ours_is_times", {}).get(name, {}).get("median")
                figures = {"documents_a_second": per_second, "tokens_a_second": tokens, "share_of_gemm": share}
                session.result["speed"][kind][heads][name] = figures | {
                    "times_flagembedding": against,
                    "rounds": documents[name],
                }
                rows.append([heads, name, per_second, tokens, report.percent(share), against])
        header = ["heads", "who", "documents/s", "tokens/s", "of bf16 product", f"x {REFERENCE}"]
        title = f"{kind}: {COUNTS[session.options.size][kind]} texts, median of {session.options.rounds} rounds"
        report.table(title, header, rows)
    session.result["query_ms"] = {
        name: dict(zip(("p50", "p95"), map(float, np.percentile(of_calls, [50, 95])), strict=True))
        for name, of_calls in milliseconds.items()
    }
    rows = [[name, c.precision, *session.result["query_ms"][name].values()] for name, c in contenders.items()]
    report.table("one query of 16 tokens, dense + sparse", ["who", "precision", "p50 ms", "p95 ms"], rows)
    if session.result["memory_gb"]:
        many = COUNTS[session.options.size]["in one call"]
        header = ["who", "weights", f"one of {session.max_length} tokens", f"{many} of them", "after close"]
        rows = [[name, *found.values()] for name, found in session.result["memory_gb"].items()]
        report.table("GB of GPU memory at most, dense + sparse", header, rows)
    print(f"the yardstick: {session.result['gemm_gigaops']['median']:.0f} x 10^9 operations/s in a bf16 product")


if __name__ == "__main__":
    main()
