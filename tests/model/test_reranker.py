"""`M3Reranker`: pairs, how they are cut, order, streams, errors, pickling."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import trivec.encoding
from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model, M3Reranker, RerankResult
from trivec.checkpoint.pair_tokenizer import PairTokenizer, TextPair
from trivec.encoding import TruncationWarning
from trivec.errors import CheckpointError, TrivecError

TEXTS = [text for texts in SENTENCES.values() for text in texts]
QUERY = SENTENCES["en"][0]
PAIRS = [(QUERY, text) for text in TEXTS]


def test_scores_do_not_depend_on_the_neighbours(tiny_reranker: M3Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trivec.encoding, "WINDOW", 16)
    pairs = [*PAIRS, ("", ""), (QUERY, " ".join(TEXTS)[:2000])]
    together = tiny_reranker.compute_score(pairs)
    assert [tiny_reranker.compute_score(pair) for pair in pairs] == pytest.approx(together, abs=1e-5)
    assert list(tiny_reranker.score_stream(iter(pairs))) == pytest.approx(together, abs=1e-6)
    for tokens in (1, 256, 2000):
        assert tiny_reranker.compute_score(pairs, max_batch_tokens=tokens) == pytest.approx(together, abs=1e-5)


def test_forms_of_pairs(tiny_reranker: M3Reranker) -> None:
    score = tiny_reranker.compute_score((QUERY, TEXTS[1]))
    assert isinstance(score, float)
    assert tiny_reranker.compute_score([QUERY, TEXTS[1]]) == score
    assert tiny_reranker.compute_score([[QUERY, TEXTS[1]]]) == [score]
    assert tiny_reranker.compute_score([]) == []
    assert list(tiny_reranker.score_stream([])) == []
    (between,) = tiny_reranker.compute_score([(QUERY, TEXTS[1])], normalize=True)
    assert between == pytest.approx(1 / (1 + math.exp(-score)))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("text", "a bare str"),
        ([("a", "b"), ("a",)], r"pairs\[1\]"),
        ([("a", None)], r"pairs\[0\]"),
        ({"a": "b"}, "a dict"),
    ],
)
def test_what_is_no_pair(tiny_reranker: M3Reranker, pairs: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tiny_reranker.compute_score(pairs)
    with pytest.raises(TypeError, match=message):
        list(tiny_reranker.score_stream(pairs))


def test_what_was_read_before_an_error_is_scored(tiny_reranker: M3Reranker) -> None:
    def pairs() -> Iterator[tuple[str, str]]:
        yield PAIRS[0]
        raise RuntimeError("the file ends here")

    scores = tiny_reranker.score_stream(pairs())
    assert next(scores) == pytest.approx(tiny_reranker.compute_score(PAIRS[0]), abs=1e-6)
    with pytest.raises(RuntimeError, match="ends here"):
        next(scores)


def test_rank(tiny_reranker: M3Reranker) -> None:
    scores = tiny_reranker.compute_score(PAIRS)
    ranked = tiny_reranker.rank(QUERY, TEXTS)
    assert [found.index for found in ranked] == sorted(range(len(TEXTS)), key=lambda i: -scores[i])
    assert [found.text for found in ranked] == [TEXTS[found.index] for found in ranked]
    assert [found.score for found in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
    best = tiny_reranker.rank(QUERY, iter(TEXTS), 2, normalize=True)
    assert [found.index for found in best] == [found.index for found in ranked[:2]]
    assert 0 < best[1].score <= best[0].score < 1
    assert best[0].to_dict() == {"text": best[0].text, "score": best[0].score, "index": best[0].index}
    assert repr(RerankResult("a", 0.5, 1)) == "RerankResult(text='a', score=0.5, index=1)"
    assert tiny_reranker.rank(QUERY, []) == []
    assert [found.index for found in tiny_reranker.rank(QUERY, ["a lake"] * 3)] == [0, 1, 2]
    with pytest.raises(TypeError, match=r"documents\[1\] is 3"):
        tiny_reranker.rank(QUERY, ["a", 3])
    with pytest.raises(TypeError, match="documents must be a list"):
        tiny_reranker.rank(QUERY, "a lake")
    with pytest.raises(TypeError, match="query is"):
        tiny_reranker.rank(["a"], ["a lake"])
    with pytest.raises(ValueError, match="top_k=0"):
        tiny_reranker.rank(QUERY, TEXTS, 0)


def test_long_pairs_are_cut_and_told_of(tiny_reranker: M3Reranker) -> None:
    long, short = " ".join(TEXTS[:6]), "a lake"
    with pytest.warns(TruncationWarning, match="1 of 2 pairs had more than max_length=20 tokens") as told:
        scores = tiny_reranker.compute_score([(short, long), (short, short)], max_length=20)
    assert told[0].filename == __file__
    with pytest.warns(TruncationWarning, match="1 of 1 pairs"):
        assert list(tiny_reranker.score_stream([(short, long)], max_length=20)) == pytest.approx(scores[:1], abs=1e-5)
    with pytest.warns(TruncationWarning, match="1 of 1 pairs"):
        tiny_reranker.rank(short, [long], max_length=20)
    for wrong in (1, 3, 1025):
        with pytest.raises(ValueError, match=f"max_length={wrong}"):
            tiny_reranker.compute_score(PAIRS, max_length=wrong)


def test_which_of_a_pair_is_cut(tiny_reranker: M3Reranker) -> None:
    tokenizer = tiny_reranker.tokenizer
    long = " ".join(TEXTS[:6])
    start, *inside, end = tokenizer.encode(long)
    few = tokenizer.encode("a lake")[1:-1]

    def cut(query: str, passage: str, max_length: int, of_query: int | None = None) -> list[int]:
        tokenized = PairTokenizer(tokenizer, of_query).encode_batch([TextPair(query, passage)], max_length)
        assert tokenized.cut == {0}
        return tokenized.token_ids[0].tolist()

    # The longer loses its end, and where both are too long, each gets half.
    left = 30 - 4 - len(few)
    assert cut("a lake", long, 30) == [start, *few, end, end, *inside[:left], end]
    assert cut(long, "a lake", 30) == [start, *inside[:left], end, end, *few, end]
    assert cut(long, long, 31) == [start, *inside[:13], end, end, *inside[:14], end]
    assert cut(f"{long} lake", long, 31) == [start, *inside[:14], end, end, *inside[:13], end]
    # With a limit of its own, the query is cut to that and the passage gets the rest.
    assert cut(long, long, 31, 5) == [start, *inside[:5], end, end, *inside[:22], end]
    assert cut(long, "a lake", 31, 5) == [start, *inside[:5], end, end, *few, end]
    assert cut(long, long, 10, 100) == [start, *inside[:6], end, end, end]


def test_a_query_is_tokenized_once(tiny_reranker: M3Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode_batch = type(tiny_reranker.tokenizer).encode_batch

    def counted(self: object, texts: list[str], max_length: int) -> object:
        seen.extend(texts)
        return encode_batch(self, texts, max_length)

    monkeypatch.setattr(type(tiny_reranker.tokenizer), "encode_batch", counted)
    tiny_reranker.compute_score(PAIRS)
    assert seen.count(QUERY) == 1


def test_what_a_reranker_says_of_itself(tiny_reranker: M3Reranker, tiny_reranker_checkpoint: Path) -> None:
    assert repr(tiny_reranker) == f"<M3Reranker {str(tiny_reranker_checkpoint)!r}: fp32, 1024 tokens>"
    assert tiny_reranker.config.hidden_size == 32
    assert len(tiny_reranker.fingerprint) == 64


def test_closed(tiny_reranker_checkpoint: Path) -> None:
    with M3Reranker.load(tiny_reranker_checkpoint, precision="fp32", max_length=50) as reranker:
        assert reranker.max_length == 50
    with pytest.raises(TrivecError, match="closed"):
        reranker.compute_score(PAIRS[0])


def test_it_travels_as_its_name(tiny_reranker_checkpoint: Path, tiny_checkpoint: Path) -> None:
    reranker = M3Reranker.load(tiny_reranker_checkpoint, precision="fp32", num_threads=1)
    pickled = pickle.dumps(reranker)
    of_model = pickle.dumps(M3Model.load(tiny_checkpoint, precision="fp32"))
    received = pickle.loads(pickled)
    assert received.compute_score(PAIRS) == reranker.compute_score(PAIRS)
    model = pickle.loads(of_model)  # which tasks bring besides: neither is loaded for each task
    assert pickle.loads(pickled) is received
    assert pickle.loads(of_model) is model


def test_what_is_no_cross_encoder(tiny_checkpoint: Path, tiny_reranker_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no classification head"):
        M3Reranker.load(tiny_checkpoint)
    with pytest.raises(CheckpointError, match=r"load it with trivec\.M3Reranker"):
        M3Model.load(tiny_reranker_checkpoint)
    three = write_random_checkpoint(tmp_path / "three", classifier=3)
    with pytest.raises(CheckpointError, match="tells 3 classes apart"):
        M3Reranker.load(three)
    with pytest.raises(ValueError, match="api_key"):
        M3Reranker.load(tiny_reranker_checkpoint, api_key="secret")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_reranker_checkpoint, broken)
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(
        weights.replace(b"classifier.out_proj.bias", b"classifier.out_proj.bied")
    )
    assert config["architectures"] == ["XLMRobertaForSequenceClassification"]
    with pytest.raises(CheckpointError, match="half a classification head"):
        M3Reranker.load(broken)


def test_scores_are_plain_numbers(tiny_reranker: M3Reranker) -> None:
    assert json.dumps(tiny_reranker.compute_score(PAIRS[:2], normalize=True))
    assert not isinstance(tiny_reranker.compute_score(PAIRS[0]), np.generic)
