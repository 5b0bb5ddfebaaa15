"""trivec against FlagEmbedding 1.4.2 and pymilvus-model 0.3.4: same random checkpoint, same texts, same vectors."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from random_checkpoint import FULL_SIZE, TINY, write_random_checkpoint
from sample_texts import SENTENCES
from trivec import BGEM3EmbeddingFunction, M3Embeddings, M3Model
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines.processor import missing_for_native

TOLERANCE = 1e-5
ALL = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
ALL_TEXTS = [text for texts in SENTENCES.values() for text in texts]
SMALL = TINY.__class__(**(vars(TINY) | {"hidden_size": 128, "num_layers": 4, "num_heads": 8, "intermediate_size": 512}))


def reference(folder: Path, **options: object):
    from FlagEmbedding import BGEM3FlagModel

    return BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu", **options)


def assert_same(ours: M3Embeddings, theirs: dict) -> None:
    assert np.abs(ours.dense - theirs["dense_vecs"]).max() <= TOLERANCE
    for i, weights in enumerate(theirs["lexical_weights"]):
        row = ours.sparse[i]
        got = dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))
        wanted = {int(token_id): float(weight) for token_id, weight in weights.items()}
        assert {t for t, w in got.items() if w > 1e-6} <= wanted.keys()
        assert {t for t, w in wanted.items() if w > 1e-6} <= got.keys()
        assert max((abs(got.get(t, 0) - wanted.get(t, 0)) for t in got.keys() | wanted.keys()), default=0) <= TOLERANCE
    for got_vectors, wanted_vectors in zip(ours.colbert_vecs, theirs["colbert_vecs"], strict=True):
        assert got_vectors.shape == wanted_vectors.shape
        assert np.abs(got_vectors - wanted_vectors).max() <= TOLERANCE


def texts_of_every_length(checkpoint: Path) -> list[str]:
    """A text of every length from 1 to 600 tokens, the twelve languages by turns; duplicates, empties and oddities."""
    draw = random.Random(7)
    tokenizer = M3Tokenizer(checkpoint / "tokenizer.json")
    words = [" ".join(texts).split() for texts in SENTENCES.values()]
    by_length: dict[int, str] = {}
    while missing := [length for length in range(1, 601) if length not in by_length]:
        for length in missing:
            text = " ".join(draw.choices(words[draw.randrange(len(words))], k=length))
            text = text[: tokenizer.token_spans(text)[length - 1][1]]
            by_length[len(tokenizer.encode_batch([text], 10_000).token_ids[0]) - 2] = text
    texts = [by_length[length] for length in range(1, 601)]
    return [*texts, *texts[:5], "", " ", "\t\n", "<pad> spelled <s> out </s>", "<unk>", "🚣‍♀️ emoji 😀", "ﬁ Ⅷ ｆｕｌｌ"]


@pytest.fixture(params=["openvino", "native", "torch"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and (missing := missing_for_native()):
        pytest.skip(missing)
    return request.param


def exact_model(folder: Path, engine: str) -> M3Model:
    return M3Model.load(folder, device="cpu", engine=engine, precision="fp32")


@pytest.fixture(scope="module", params=["own tokenizer", "XLM-R tokenizer"])
def small_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = None if request.param == "own tokenizer" else request.getfixturevalue("xlmr_tokenizer")
    folder = tmp_path_factory.mktemp("parity") / "small"
    return write_random_checkpoint(folder, SMALL, tokenizer=tokenizer, seed=3, weights="pytorch_model.bin")


@pytest.fixture(scope="module")
def every_length(small_checkpoint: Path) -> tuple[list[str], dict]:
    """Texts and the reference's vectors of them."""
    texts = texts_of_every_length(small_checkpoint)
    return texts, reference(small_checkpoint).encode(texts, batch_size=32, max_length=SMALL.max_length, **ALL)


def test_small_checkpoint_every_length(
    small_checkpoint: Path, every_length: tuple[list[str], dict], engine: str
) -> None:
    texts, theirs = every_length
    assert_same(exact_model(small_checkpoint, engine).encode(texts, return_colbert_vecs=True), theirs)


@pytest.mark.parametrize("tokens", [256, 153_600])
def test_batches_of_any_size(small_checkpoint: Path, every_length: tuple[list[str], dict], tokens: int) -> None:
    """A text a batch, and all texts packed into one, on two devices that share the work."""
    texts, theirs = every_length
    model = M3Model.load(small_checkpoint, device=["cpu", "cpu"], engine="torch", precision="fp32")
    assert_same(model.encode(texts, max_batch_tokens=tokens, return_colbert_vecs=True), theirs)


def test_truncation_as_the_reference_does_it(small_checkpoint: Path, engine: str) -> None:
    texts = [" ".join(ALL_TEXTS), ""]
    model = exact_model(small_checkpoint, engine)
    for max_length in (3, 16, 100):
        theirs = reference(small_checkpoint).encode(texts, max_length=max_length, **ALL)
        with pytest.warns(UserWarning, match=f"1 of 2 texts had more than max_length={max_length} tokens"):
            assert_same(model.encode(texts, max_length=max_length, return_colbert_vecs=True), theirs)


def test_without_normalization(small_checkpoint: Path, engine: str) -> None:
    texts = SENTENCES["en"]
    theirs = reference(small_checkpoint, normalize_embeddings=False).encode(texts, **ALL)["dense_vecs"]
    ours = exact_model(small_checkpoint, engine).encode(texts, normalize=False).dense
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("weights", [None, [0.4, 0.2, 0.4]])
def test_compute_score(small_checkpoint: Path, engine: str, weights: list[float] | None) -> None:
    pairs = [
        (SENTENCES["en"][0], SENTENCES["de"][0]),
        (SENTENCES["th"][1], SENTENCES["ar"][2]),
        ("a", SENTENCES["zh"][0]),
    ]
    # One pair a batch: in a padded batch the reference lets padding take part in MaxSim.
    theirs = reference(small_checkpoint).compute_score(pairs, batch_size=1, weights_for_different_modes=weights)
    ours = exact_model(small_checkpoint, engine).compute_score(pairs, weights or (1.0, 1.0, 1.0))
    assert ours.keys() == theirs.keys()
    for mode, scores in theirs.items():
        assert ours[mode] == pytest.approx(scores, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "auto"), ("native", "int8"), ("torch", "bf16")])
def test_reduced_precision_stays_close(
    small_checkpoint: Path, every_length: tuple[list[str], dict], engine: str, precision: str
) -> None:
    if engine == "native" and (missing := missing_for_native()):
        pytest.skip(missing)
    model = M3Model.load(small_checkpoint, device="cpu", engine=engine, precision=precision)
    if model.precision == "fp32":
        pytest.skip("this processor has no bfloat16 instructions")
    texts, theirs = every_length
    got = model.encode(texts, return_colbert_vecs=True)
    assert (got.dense * theirs["dense_vecs"]).sum(axis=1).min() >= 0.9995
    for ours, other in zip(got.colbert_vecs, theirs["colbert_vecs"], strict=True):
        assert (ours * other).sum(axis=1).min() >= 0.999
    for row, weights in zip(got.sparse, theirs["lexical_weights"], strict=True):
        ours = dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))
        other = {int(token_id): float(weight) for token_id, weight in weights.items()}
        assert max((abs(ours.get(t, 0) - other.get(t, 0)) for t in ours.keys() | other.keys()), default=0) <= 0.01


def test_embedding_function_of_pymilvus_model(small_checkpoint: Path, engine: str) -> None:
    from pymilvus.model.hybrid import BGEM3EmbeddingFunction as Theirs

    assert Theirs is not BGEM3EmbeddingFunction, "pymilvus-model is installed here, so its own class must win"
    texts = [text for sentences in SENTENCES.values() for text in sentences]
    options = {"device": "cpu", "use_fp16": False, "return_colbert_vecs": True}
    theirs = Theirs(str(small_checkpoint), **options)
    ours = BGEM3EmbeddingFunction(str(small_checkpoint), engine=engine, **options)
    assert dict(ours.dim) == dict(theirs.dim)
    wanted, got = theirs.encode_documents(texts), ours.encode_documents(texts)
    assert got.keys() == wanted.keys()
    assert isinstance(got["dense"], list)
    assert got["dense"][0].shape == wanted["dense"][0].shape
    assert np.abs(np.stack(got["dense"]) - np.stack(wanted["dense"])).max() <= TOLERANCE
    assert got["sparse"].shape == wanted["sparse"].shape
    assert abs(got["sparse"] - wanted["sparse"]).max() <= TOLERANCE
    for mine, other in zip(got["colbert_vecs"], wanted["colbert_vecs"], strict=True):
        assert np.abs(mine - other).max() <= TOLERANCE


def test_full_size(xlmr_tokenizer: Path, tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "full", FULL_SIZE, tokenizer=xlmr_tokenizer, seed=1)
    words = " ".join(ALL_TEXTS).split()
    draw = random.Random(5)
    texts = [" ".join(draw.choices(words, k=count)) for count in (4, 5, 105, 115, 1200)]
    theirs = reference(folder).encode(texts, batch_size=1, max_length=8192, **ALL)
    assert max(len(vectors) for vectors in theirs["colbert_vecs"]) > 2000
    for engine in ("openvino", "torch"):
        with exact_model(folder, engine) as exact:
            assert_same(exact.encode(texts, return_colbert_vecs=True), theirs)
    with M3Model.load(folder) as fast:
        got = fast.encode(texts)
    assert (got.dense * theirs["dense_vecs"]).sum(axis=1).min() >= 0.9995
