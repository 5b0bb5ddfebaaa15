"""trivec against FlagEmbedding's FlagReranker and transformers: same random checkpoint, same pairs, same scores."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import FULL_SIZE, TINY, write_random_checkpoint
from sample_texts import SENTENCES
from trivec import BGERerankFunction, FlagReranker, M3Reranker
from trivec.checkpoint.pair_tokenizer import PairTokenizer, TextPair
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines.processor import missing_for_native

TOLERANCE = 1e-5
SMALL = TINY.__class__(**(vars(TINY) | {"hidden_size": 128, "num_layers": 4, "num_heads": 8, "intermediate_size": 512}))
WORDS = " ".join(text for texts in SENTENCES.values() for text in texts).split()


def reference(folder: Path, **options: object):
    from FlagEmbedding import FlagReranker

    return FlagReranker(str(folder), use_fp16=False, devices="cpu", **options)


@pytest.fixture(params=["openvino", "native", "torch"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and (missing := missing_for_native()):
        pytest.skip(missing)
    return request.param


def exact_reranker(folder: Path, engine: str) -> M3Reranker:
    return M3Reranker.load(folder, device="cpu", engine=engine, precision="fp32")


@pytest.fixture(scope="module")
def checkpoint(xlmr_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the real tokenizer, as FlagEmbedding decodes what it has tokenized and tokenizes that once more."""
    folder = tmp_path_factory.mktemp("parity") / "reranker"
    return write_random_checkpoint(folder, SMALL, tokenizer=xlmr_tokenizer, seed=4, classifier=1)


@pytest.fixture(scope="module")
def every_length(checkpoint: Path) -> tuple[list[tuple[str, str]], list[float]]:
    """A pair of every length from 5 to 200 tokens and of some up to 600, and the reference's scores.

    No passage is empty, nor has an unknown character: the reference decodes what it has tokenized and tokenizes that
    once more, which loses the blank before `<unk>`, and where nothing is left reads the query alone.
    """
    draw = random.Random(7)
    tokenizer = M3Tokenizer(checkpoint / "tokenizer.json")
    pairs = []
    for length in [*range(1, 197), 296, 396, 509, 596]:  # without the four special tokens
        found = False
        while not found:
            query = " ".join(draw.choices(WORDS, k=draw.randrange(min(length, 24) // 2 + 1)))
            passage = " ".join(draw.choices(WORDS, k=length))
            left = length - len(tokenizer.token_spans(query))
            if left < 1:
                continue
            passage = passage[: tokenizer.token_spans(passage)[left - 1][1]]
            (ids,) = PairTokenizer(tokenizer).encode_batch([TextPair(query, passage)], 10_000).token_ids
            found = len(ids) == length + 4
        pairs.append((query, passage))
    pairs += [*pairs[:3], ("", "a lake"), ("ﬁ Ⅷ", "ｆｕｌｌ"), ("\t\n", " a  boat ")]
    return pairs, reference(checkpoint).compute_score(pairs, batch_size=16, max_length=SMALL.max_length)


def test_every_length(checkpoint: Path, every_length: tuple[list[tuple[str, str]], list[float]], engine: str) -> None:
    pairs, theirs = every_length
    ours = exact_reranker(checkpoint, engine).compute_score(pairs)
    assert np.abs(np.array(ours) - theirs).max() <= TOLERANCE
    assert np.std(theirs) > 0.01


@pytest.mark.parametrize("max_length", [4, 5, 9, 16, 33, 64])
def test_pairs_are_cut_as_transformers_cuts_them(checkpoint: Path, max_length: int) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(checkpoint)
    ours = PairTokenizer(M3Tokenizer(checkpoint / "tokenizer.json"))
    draw = random.Random(max_length)
    for _ in range(100):
        # transformers takes an empty passage for none.
        query, passage = (" ".join(draw.choices(WORDS, k=draw.randrange(1, 30))) for _ in range(2))
        whole = theirs(query, passage)["input_ids"]
        wanted = theirs(query, passage, truncation="longest_first", max_length=max_length)["input_ids"]
        got = ours.encode_batch([TextPair(query, passage)], max_length)
        assert got.token_ids[0].tolist() == wanted
        assert bool(got.cut) == (len(whole) > max_length)


def test_the_cut_of_a_query_first(checkpoint: Path, engine: str) -> None:
    """FlagEmbedding cuts queries to three quarters, then passages; by words, since it reads what it cut once more."""
    pairs = [(SENTENCES["en"][0], " ".join(SENTENCES["de"] * 3)), (" ".join(SENTENCES["en"] * 2), SENTENCES["fr"][0])]
    theirs = reference(checkpoint).compute_score(pairs, max_length=64)
    with pytest.warns(UserWarning, match="2 of 2 pairs had more than max_length=64"):
        ours = exact_reranker(checkpoint, engine).compute_score(pairs, max_length=64, query_max_length=48)
    assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)


def test_the_classes_that_others_have(checkpoint: Path) -> None:
    """`FlagReranker` and pymilvus-model's `BGERerankFunction` beside ours, as they are by default."""
    from pymilvus.model.reranker import BGERerankFunction as Theirs

    assert Theirs is not BGERerankFunction, "pymilvus-model is installed here, so its own class must win"
    query = SENTENCES["en"][0]
    documents = [*SENTENCES["de"], *SENTENCES["fr"], SENTENCES["en"][0]]
    pairs = [[query, document] for document in documents]
    ours = FlagReranker(str(checkpoint))
    assert ours.compute_score(pairs) == pytest.approx(reference(checkpoint).compute_score(pairs), abs=TOLERANCE)
    options = {"use_fp16": False, "device": "cpu", "model_class": "encoder-only-base"}
    theirs = Theirs(str(checkpoint), **options)(query, documents, top_k=4)
    found = BGERerankFunction(str(checkpoint), **options)(query, documents, top_k=4)
    assert [one.index for one in found] == [one.index for one in theirs]
    assert [one.text for one in found] == [one.text for one in theirs]
    assert [one.score for one in found] == pytest.approx([one.score for one in theirs], abs=TOLERANCE)
    assert repr(found[0]).partition("score")[0] == repr(theirs[0]).partition("score")[0]


def test_normalized(checkpoint: Path, engine: str) -> None:
    pairs = [(SENTENCES["en"][0], SENTENCES["de"][0]), (SENTENCES["th"][1], SENTENCES["ar"][2])]
    theirs = reference(checkpoint).compute_score(pairs, normalize=True)
    ours = exact_reranker(checkpoint, engine).compute_score(pairs, normalize=True)
    assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "auto"), ("native", "int8"), ("torch", "bf16")])
def test_reduced_precision_stays_close(
    checkpoint: Path, every_length: tuple[list[tuple[str, str]], list[float]], engine: str, precision: str
) -> None:
    if engine == "native" and (missing := missing_for_native()):
        pytest.skip(missing)
    reranker = M3Reranker.load(checkpoint, device="cpu", engine=engine, precision=precision)
    if reranker.precision == "fp32":
        pytest.skip("this processor has no bfloat16 instructions")
    pairs, theirs = every_length
    assert np.abs(np.array(reranker.compute_score(pairs)) - theirs).max() <= 0.05


def test_full_size(xlmr_tokenizer: Path, tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "full", FULL_SIZE, tokenizer=xlmr_tokenizer, seed=1, classifier=1)
    draw = random.Random(5)
    query = " ".join(draw.choices(WORDS, k=6))
    pairs = [(query, " ".join(draw.choices(WORDS, k=count))) for count in (4, 5, 105, 300)]
    theirs = reference(folder).compute_score(pairs, batch_size=1, max_length=8192)
    for engine in ("openvino", "torch"):
        with exact_reranker(folder, engine) as exact:
            assert exact.compute_score(pairs) == pytest.approx(theirs, rel=0, abs=TOLERANCE)
