"""Every answer of the server beside `M3Model.encode` for the same texts: mixed routes, lengths and numbers of texts.

What is sent is drawn with a seed from a few hundred texts whose vectors were computed in-process beforehand, all in
float32; 32 requests are on their way at once. An answer is right if each value is within 1e-5, the same words have
lexical weights, and everything stands at its text's place, so two texts that were mixed up cannot pass. Only token
vectors asked for as float16 may differ by that type's rounding. Knows routes, measures nothing.
"""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from http_client import Job, Request
from servers import Running
from trivec import M3Model
from trivec.vectors.scoring import combined_scores

if TYPE_CHECKING:
    from server import Bench

CLOSE = 1e-5
# Values of unit vectors are below 1: half a unit of float16's last place there.
CLOSE_IN_HALF = 2.5e-4
AT_ONCE = 32
WAVE = 500
TEXTS = 400
CUT_AT = 12


class WrongAnswerError(Exception):
    """An answer that is not what the library gives."""


class Known:
    """Texts and what the library gives for them, by their number.

    Attributes:
        texts: All of them.
        whole: Their vectors, one `M3Embedding` a text.
        cut: Their vectors when read up to `CUT_AT` tokens, and not normalized.
        worst: The largest deviation met so far.
    """

    def __init__(self, model: M3Model, texts: Sequence[str]) -> None:
        self.model, self.texts = model, list(texts)
        self.whole = list(model.encode(texts, return_colbert_vecs=True, show_progress=False))
        self.cut = list(model.encode(texts, max_length=CUT_AT, normalize=False, show_progress=False))
        self.worst = 0.0

    def same(self, found: Any, expected: Any, close: float = CLOSE) -> None:
        """Compare arrays, or what makes arrays."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        if found.shape != expected.shape:
            raise WrongAnswerError(f"shape {found.shape}, expected {expected.shape}")
        # Vectors that were not normalized are longer than 1.
        largest = max(1.0, float(np.abs(expected).max(initial=0.0)))
        deviation = float(np.abs(found - expected).max(initial=0.0)) / largest
        if not deviation <= close:
            raise WrongAnswerError(f"off by {deviation}")
        if close == CLOSE:
            self.worst = max(self.worst, deviation)

    def same_sparse(self, indices: Sequence[int], values: Sequence[float], row: Any) -> None:
        """Compare a text's lexical weights, in whatever order they come."""
        order = np.argsort(indices)
        if not np.array_equal(np.asarray(indices)[order], np.sort(row.indices)):
            raise WrongAnswerError("other words have weights")
        self.same(np.asarray(values)[order], row.data[np.argsort(row.indices)])

    def scores(self, pairs: Sequence[tuple[int, int]]) -> dict[str, list[float]]:
        """What `M3Model.compute_score` gives for pairs of texts."""
        left, right = ([self.whole[i] for i in side] for side in zip(*pairs, strict=True))
        return combined_scores(left, right, self.model.fusion_weights)


class Kind(NamedTuple):
    """A kind of request: its route, what is sent for the texts of some numbers, and how the answer is checked."""

    path: str
    body: Callable[[list[str]], dict[str, Any]]
    check: Callable[[Known, list[int], Any], None]
    texts: tuple[int, int] = (1, 9)


def array(of: dict[str, Any]) -> np.ndarray:
    """An array out of its base64 form."""
    return np.frombuffer(base64.b64decode(of["data"]), np.dtype(of["dtype"]).newbyteorder("<")).reshape(of["shape"])


def _dense_and_sparse(known: Known, which: list[int], answer: Any) -> None:
    known.same(answer["dense"], [known.whole[i].dense for i in which])
    for i, row in zip(which, answer["sparse"], strict=True):
        known.same_sparse(row["indices"], row["values"], known.whole[i].sparse)


def _all_three(known: Known, which: list[int], answer: Any) -> None:
    known.same(array(answer["dense"]), [known.whole[i].dense for i in which])
    sparse = {name: array(answer["sparse"][name]) for name in ("indptr", "indices", "values")}
    for i, begin, end in zip(which, sparse["indptr"][:-1], sparse["indptr"][1:], strict=True):
        known.same_sparse(sparse["indices"][begin:end], sparse["values"][begin:end], known.whole[i].sparse)
    for i, vectors in zip(which, answer["colbert"], strict=True):
        known.same(array(vectors), known.whole[i].colbert_vecs)


def _half(known: Known, which: list[int], answer: Any) -> None:
    for i, vectors in zip(which, answer["colbert"], strict=True):
        if vectors["dtype"] != "float16":
            raise WrongAnswerError(f"{vectors['dtype']} where float16 was asked for")
        known.same(array(vectors), known.whole[i].colbert_vecs, CLOSE_IN_HALF)


def _cut(known: Known, which: list[int], answer: Any) -> None:
    known.same(answer["dense"], [known.cut[i].dense for i in which])
    for i, row in zip(which, answer["sparse"], strict=True):
        known.same_sparse(row["indices"], row["values"], known.cut[i].sparse)


def _token_vectors(known: Known, which: list[int], answer: Any) -> None:
    for i, vectors in zip(which, answer, strict=True):
        known.same(vectors, known.whole[i].colbert_vecs)


def _tei_sparse(known: Known, which: list[int], answer: Any) -> None:
    for i, row in zip(which, answer, strict=True):
        known.same_sparse([e["index"] for e in row], [e["value"] for e in row], known.whole[i].sparse)


def _openai(known: Known, which: list[int], answer: Any) -> None:
    if [item["index"] for item in answer["data"]] != list(range(len(which))):
        raise WrongAnswerError("items are out of order")
    vectors = [item["embedding"] for item in answer["data"]]
    if isinstance(vectors[0], str):
        vectors = [np.frombuffer(base64.b64decode(vector), "<f4") for vector in vectors]
    known.same(vectors, [known.whole[i].dense for i in which])


def _similarity(known: Known, which: list[int], answer: Any) -> None:
    known.same(answer, [known.whole[which[0]].dense @ known.whole[i].dense for i in which[1:]])


def _scores(known: Known, which: list[int], answer: Any) -> None:
    for mode, expected in known.scores([(which[0], i) for i in which[1:]]).items():
        known.same(answer[mode], expected)


def _ranked(known: Known, which: list[int], results: Any, name: str) -> None:
    expected = known.scores([(which[0], i) for i in which[1:]])["colbert"]
    if sorted(result["index"] for result in results) != list(range(len(expected))):
        raise WrongAnswerError("not every text is ranked once")
    known.same([result[name] for result in results], [expected[result["index"]] for result in results])
    known.same([result[name] for result in results], sorted(expected, reverse=True))


def _tei_ranked(known: Known, which: list[int], answer: Any) -> None:
    _ranked(known, which, answer, "score")


def _cohere_ranked(known: Known, which: list[int], answer: Any) -> None:
    _ranked(known, which, answer["results"], "relevance_score")


def _token_weights(known: Known, which: list[int], answer: Any) -> None:
    row = known.whole[which[0]].sparse
    expected = Counter(known.model.tokenizer.token_text(int(i)) for i in row.indices)
    if Counter(token for token, _ in answer) != expected:
        raise WrongAnswerError("other tokens")
    known.same([weight for _, weight in answer], sorted(row.data, reverse=True))


def _inputs(**more: Any) -> Callable[[list[str]], dict[str, Any]]:
    return lambda texts: {"inputs": texts if len(texts) > 1 else texts[0], **more}


def _input(**more: Any) -> Callable[[list[str]], dict[str, Any]]:
    return lambda texts: {"input": texts if len(texts) > 1 else texts[0], "model": "any", **more}


def _similar(texts: list[str]) -> dict[str, Any]:
    return {"inputs": {"source_sentence": texts[0], "sentences": texts[1:]}}


KINDS = {
    "encode": Kind("/encode", _inputs(), _dense_and_sparse),
    "encode, many texts": Kind("/encode", _inputs(), _dense_and_sparse, (20, 60)),
    "encode, all three": Kind(
        "/encode", _inputs(**{"return": ["dense", "sparse", "colbert"], "encoding": "base64"}), _all_three
    ),
    "encode, float16": Kind("/encode", _inputs(**{"return": ["colbert"], "dtype": "float16"}), _half, (1, 4)),
    "encode, cut": Kind("/encode", _inputs(max_length=CUT_AT, normalize=False), _cut),
    "embed": Kind("/embed", _inputs(truncate=True), lambda k, w, a: k.same(a, [k.whole[i].dense for i in w])),
    "embed_sparse": Kind("/embed_sparse", _inputs(truncate=True), _tei_sparse),
    "embed_all": Kind("/embed_all", _inputs(truncate=True), _token_vectors, (1, 3)),
    "openai": Kind("/v1/embeddings", _input(), _openai),
    "openai, base64": Kind("/v1/embeddings", _input(encoding_format="base64"), _openai),
    "similarity": Kind("/similarity", _similar, _similarity, (2, 6)),
    "score": Kind("/score", lambda texts: {"pairs": [[texts[0], text] for text in texts[1:]]}, _scores, (2, 6)),
    "rerank": Kind(
        "/rerank", lambda t: {"query": t[0], "texts": t[1:], "raw_scores": True, "truncate": True}, _tei_ranked, (2, 6)
    ),
    "rerank, documents": Kind("/v1/rerank", lambda t: {"query": t[0], "documents": t[1:]}, _cohere_ranked, (2, 6)),
    "token_weights": Kind("/token_weights", lambda texts: {"inputs": texts[0]}, _token_weights, (1, 2)),
}


def check(bench: Bench, requests: int) -> bool:
    """Send so many requests, compare each answer, print what was found; whether all were right."""
    model = M3Model.load(str(bench.checkpoint), precision="fp32", num_threads=bench.options.threads)
    known = Known(model, bench.texts.mixed(TEXTS, seed=7, longest=bench.longest + 40))
    draw = np.random.default_rng(8)
    running = Running("trivec-fp32", bench.setting)
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    try:
        for begin in range(0, requests, WAVE):
            chosen = [drawn(draw) for _ in range(min(WAVE, requests - begin))]
            sent = [
                Request(
                    "POST", KINDS[name].path, json.dumps(KINDS[name].body([known.texts[i] for i in which])).encode()
                )
                for name, which in chosen
            ]
            done = bench.client.run(Job(running.port, sent, AT_ONCE, keep=True))
            if sorted(answer.index for answer in done.answers) != list(range(len(sent))) or done.unasked:
                wrong.append(f"{len(done.answers)} answers to {len(sent)} requests, {done.unasked} bytes too many")
            for answer in done.answers:
                name, which = chosen[answer.index]
                counts[name] += 1
                try:
                    if answer.status != 200 or answer.body is None:
                        raise WrongAnswerError(f"status {answer.status}: {(answer.body or b'')[:200]!r}")
                    KINDS[name].check(known, which, json.loads(answer.body))
                except (WrongAnswerError, KeyError, TypeError, ValueError) as error:
                    wrong.append(f"{name} of texts {which}: {type(error).__name__}: {error}")
            print(f"{begin + len(chosen)} requests, {len(wrong)} wrong", file=sys.stderr)
    finally:
        status = running.close()
        model.close()
    for line in wrong[:20]:
        print(line)
    for name, count in sorted(counts.items()):
        print(f"{count:6} x {name}")
    digest = {"requests": counts.total(), "wrong": len(wrong), "worst_deviation": known.worst, "exit_status": status}
    print(json.dumps({"benchmark": "server --check", **digest}))
    return not wrong and status == 0


def drawn(draw: np.random.Generator) -> tuple[str, list[int]]:
    """A kind of request and the numbers of its texts; most requests have few, as clients' do."""
    name = str(draw.choice(list(KINDS)))
    least, most = KINDS[name].texts
    count = least + int((most - least) * draw.random() ** 3)
    return name, [int(i) for i in draw.integers(0, TEXTS, count)]
