"""The library's own API: order, independence, streams, threads, odd texts, errors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import trivec.encoding
import trivec.support.progress
from sample_texts import SENTENCES
from trivec import M3Embedding, M3Model
from trivec.encoding import TruncationWarning
from trivec.errors import TrivecError
from trivec.model import encode_without_warning

TEXTS = [text for texts in SENTENCES.values() for text in texts]
TOLERANCE = 1e-5


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 16 texts, so that a few texts cross several of them."""
    monkeypatch.setattr(trivec.encoding, "WINDOW", 16)


def test_results_do_not_depend_on_the_neighbours(tiny_model: M3Model) -> None:
    texts = [*TEXTS, "", " ", *TEXTS[:4], " ".join(TEXTS)]
    together = tiny_model.encode(texts, return_colbert_vecs=True)
    for i, text in enumerate(texts):
        alone = tiny_model.encode([text], return_colbert_vecs=True)[0]
        assert np.abs(alone.dense - together.dense[i]).max() <= TOLERANCE
        assert abs(alone.sparse - together.sparse[i]).max() <= TOLERANCE
        assert np.abs(alone.colbert_vecs - together.colbert_vecs[i]).max() <= TOLERANCE


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("max_batch_tokens", [1, 256, 2000, None])
def test_results_come_in_input_order(max_batch_tokens: int | None, tiny_model: M3Model) -> None:
    order = random.Random(1).sample(range(len(TEXTS)), len(TEXTS))
    sorted_once = tiny_model.encode(TEXTS, return_colbert_vecs=True)
    shuffled = tiny_model.encode((TEXTS[i] for i in order), max_batch_tokens=max_batch_tokens, return_colbert_vecs=True)
    assert np.abs(shuffled.dense - sorted_once.dense[order]).max() <= TOLERANCE
    assert abs(shuffled.sparse - sorted_once.sparse[order]).max() <= TOLERANCE
    for i, vectors in zip(order, shuffled.colbert_vecs, strict=True):
        assert np.abs(vectors - sorted_once.colbert_vecs[i]).max() <= TOLERANCE


def test_shapes_and_dtypes(tiny_model: M3Model) -> None:
    embeddings = tiny_model.encode(TEXTS, return_colbert_vecs=True)
    assert embeddings.dense.shape == (len(TEXTS), tiny_model.dim["dense"])
    assert embeddings.sparse.shape == (len(TEXTS), tiny_model.dim["sparse"])
    assert {embeddings.dense.dtype, embeddings.sparse.dtype, embeddings.colbert_vecs[0].dtype} == {np.dtype(np.float32)}
    lengths = [len(ids) for ids in tiny_model.tokenizer.encode_batch(TEXTS, 1024).token_ids]
    assert [len(vectors) for vectors in embeddings.colbert_vecs] == [n - 1 for n in lengths]
    assert np.linalg.norm(embeddings.dense, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(embeddings.colbert_vecs[0], axis=1) == pytest.approx(1, abs=1e-5)
    assert len(embeddings) == len(TEXTS)
    with pytest.raises(TypeError, match="slice"):
        embeddings[1:3]
    assert [e.sparse.shape for e in embeddings] == [(1, tiny_model.dim["sparse"])] * len(TEXTS)


def test_only_what_is_asked_for(tiny_model: M3Model) -> None:
    sparse_only = tiny_model.encode(TEXTS, return_dense=False)
    assert sparse_only.dense is None
    assert sparse_only.colbert_vecs is None
    assert len(sparse_only) == len(TEXTS)
    assert abs(sparse_only.sparse - tiny_model.encode(TEXTS).sparse).max() == 0
    with pytest.raises(ValueError, match="nothing to compute"):
        tiny_model.encode(TEXTS, return_dense=False, return_sparse=False)


def test_no_text_at_all(tiny_model: M3Model) -> None:
    for nothing in ([], (), iter([]), np.array([], dtype=str)):
        empty = tiny_model.encode(nothing, return_colbert_vecs=True)
        assert empty.dense.shape == (0, 32)
        assert empty.sparse.shape == (0, tiny_model.dim["sparse"])
        assert empty.colbert_vecs == []
        assert len(empty) == 0
    assert list(tiny_model.encode_stream([])) == []


@pytest.mark.filterwarnings("ignore:1 of 1 texts")
@pytest.mark.parametrize(
    "text", ["", " \n\t", "\x00", "a\x00b", "\ud83d", "👩‍👩‍👧‍👦🏳️‍🌈", "สวัสดีครับ", "\u202eabc", "x" * 5000, "\ufeff"]
)
def test_odd_texts_have_vectors(text: str, tiny_model: M3Model) -> None:
    embedding = tiny_model.encode([text], return_colbert_vecs=True, max_length=512)[0]
    assert np.isfinite(embedding.dense).all()
    assert embedding.colbert_vecs.shape[0] >= 1


def test_an_empty_text_has_a_dense_vector_and_no_lexical_weight(tiny_model: M3Model) -> None:
    embedding = tiny_model.encode([""], return_colbert_vecs=True)[0]
    assert embedding.sparse.nnz == 0
    assert embedding.colbert_vecs.shape == (1, 32)


def test_long_texts_are_cut_with_one_warning_that_counts(tiny_model: M3Model) -> None:
    texts = ["", *TEXTS]
    with pytest.warns(UserWarning, match=rf"{len(TEXTS)} of {len(texts)} texts had more than max_length=5") as caught:
        tiny_model.encode(texts, max_length=5)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the warning points at the user's own line


@pytest.mark.usefixtures("small_windows")
def test_which_texts_were_cut_is_in_the_result(tiny_model: M3Model, recwarn: pytest.WarningsRecorder) -> None:
    long = [i % 7 == 3 for i in range(40)]
    texts = ["a b c d e" if is_long else "a" for is_long in long]
    embeddings = tiny_model.encode(texts, max_length=4)
    assert embeddings.truncated == len(embeddings.cut) == 6
    assert [i in embeddings.cut for i in range(40)] == [each.truncated for each in embeddings] == long
    assert (embeddings[-2].truncated, embeddings[-1].truncated) == (True, False)
    assert [each.truncated for each in tiny_model.encode_stream(iter(texts), max_length=4)] == long
    assert len(tiny_model.compute_score([("a", "a b c d e")] * 2, max_length=4)["dense"]) == 2
    told = [(each.message.truncated, each.message.total, each.message.max_length) for each in recwarn]
    assert told == [(6, 40, 4), (6, 40, 4), (2, 4, 4)]
    assert {(each.category, each.filename) for each in recwarn} == {(TruncationWarning, __file__)}
    assert tiny_model.encode(texts).truncated == tiny_model.encode([]).truncated == 0


def test_trivec_itself_encodes_without_a_warning(tiny_model: M3Model, recwarn: pytest.WarningsRecorder) -> None:
    quiet = encode_without_warning(tiny_model, TEXTS[:3], max_length=4, return_dense=False)
    assert (quiet.truncated, quiet.dense, quiet.colbert_vecs, len(recwarn)) == (3, None, None, 0)
    with pytest.warns(TruncationWarning, match="3 of 3"):
        loud = tiny_model.encode(TEXTS[:3], max_length=4, return_dense=False)
    assert abs(quiet.sparse - loud.sparse).max() == 0


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_batch_holds_a_token_at_least(tokens: int, tiny_model: M3Model) -> None:
    with pytest.raises(ValueError, match=f"max_batch_tokens={tokens} must be at least 1"):
        tiny_model.encode(TEXTS, max_batch_tokens=tokens)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("bare", "bare str"),
        (b"bare", "bare bytes"),
        (3, "got int"),
        (["a", None], r"texts\[1\] is None \(NoneType\)"),
        (["a", "b", 2.5], r"texts\[2\] is 2.5 \(float\)"),
        (("a", b"b"), r"texts\[1\] is b'b' \(bytes\)"),
    ],
)
def test_what_is_no_text_is_named(texts: object, message: str, tiny_model: M3Model) -> None:
    with pytest.raises(TypeError, match=message):
        tiny_model.encode(texts)
    with pytest.raises(TypeError, match=message):
        list(tiny_model.encode_stream(texts))


def test_a_stream_refuses_a_bare_text_at_once(tiny_model: M3Model) -> None:
    with pytest.raises(TypeError, match="bare str"):
        tiny_model.encode_stream("bare")


@pytest.mark.usefixtures("small_windows")
def test_stream_equals_encode_and_reads_no_further_than_needed(tiny_model: M3Model) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield TEXTS[read % len(TEXTS)]

    stream = tiny_model.encode_stream(endless())
    taken = [next(stream) for _ in range(40)]
    assert read <= 5 * 16
    wanted = tiny_model.encode([TEXTS[(i + 1) % len(TEXTS)] for i in range(40)])
    assert np.abs(np.stack([e.dense for e in taken]) - wanted.dense).max() <= TOLERANCE


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("count", [0, 5, 16, 20, 32, 33])
def test_a_stream_that_fails_loses_nothing_before(count: int, tiny_model: M3Model) -> None:
    def failing() -> Iterator[str]:
        yield from (TEXTS[i % len(TEXTS)] for i in range(count))
        raise OSError("the disk is gone")

    received: list[M3Embedding] = []
    with pytest.raises(OSError, match="the disk is gone"):
        received.extend(tiny_model.encode_stream(failing()))
    assert len(received) == count


@pytest.mark.usefixtures("small_windows")
def test_vectors_never_stand_in_for_those_of_other_texts(tiny_model: M3Model, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_batch, windows = tiny_model.tokenizer.encode_batch, iter(range(9))

    def out_of_memory_in_the_second_window(texts: list[str], max_length: int) -> object:
        if next(windows) == 1:
            raise MemoryError
        return encode_batch(texts, max_length)

    monkeypatch.setattr(tiny_model.tokenizer, "encode_batch", out_of_memory_in_the_second_window)
    received: list[M3Embedding] = []
    with pytest.raises(MemoryError):
        received.extend(tiny_model.encode_stream(TEXTS * 2))
    assert len(received) == 16


def test_a_stream_of_token_vectors_holds_few_texts_at_once(
    tiny_model: M3Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivec.encoding, "_WINDOW_CHARACTERS_WITH_TOKEN_VECTORS", 1000)
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "boat " * 20

    next(tiny_model.encode_stream(texts(), return_colbert_vecs=True))
    assert read <= 20


def test_threads_share_a_model(tiny_model: M3Model) -> None:
    wanted = tiny_model.encode(TEXTS, return_colbert_vecs=True)

    def encode(start: int) -> bool:
        part = tiny_model.encode(TEXTS[start:], return_colbert_vecs=start % 2 == 0, show_progress=False)
        return bool(np.abs(part.dense - wanted.dense[start:]).max() <= TOLERANCE)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(encode, [i % 20 for i in range(80)]))


def test_token_weights_are_words_heaviest_first(tiny_model: M3Model) -> None:
    text = "A small boat crossed the lake."
    pairs = tiny_model.token_weights(text)
    weights = [weight for _, weight in pairs]
    assert weights == sorted(weights, reverse=True)
    assert min(weights) > 0
    assert all(token.replace("▁", "") in text for token, _ in pairs)
    assert tiny_model.token_weights("") == []


def test_scores_of_one_pair_and_of_many(tiny_model: M3Model) -> None:
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[5], TEXTS[9]), (TEXTS[2], TEXTS[2])]
    scores = tiny_model.compute_score(pairs, weights=(0.4, 0.2, 0.4))
    assert list(scores) == ["colbert", "sparse", "dense", "sparse+dense", "colbert+sparse+dense"]
    assert tiny_model.compute_score(pairs[1], weights=(0.4, 0.2, 0.4)) == pytest.approx(
        {m: s[1] for m, s in scores.items()}
    )
    dense, sparse, colbert = (np.array(scores[mode]) for mode in ("dense", "sparse", "colbert"))
    assert scores["sparse+dense"] == pytest.approx((0.4 * dense + 0.2 * sparse) / 0.6)
    assert scores["colbert+sparse+dense"] == pytest.approx(0.4 * dense + 0.2 * sparse + 0.4 * colbert)
    assert dense[2] == pytest.approx(1, abs=1e-5)
    assert colbert[2] == pytest.approx(1, abs=1e-5)
    assert tiny_model.compute_score([]) == {mode: [] for mode in scores}
    assert tiny_model.compute_score(iter(pairs)) == tiny_model.compute_score(pairs)
    for wrong in ("no pair", "ab", ("a", None), ("a", "b", "c"), 3):
        with pytest.raises(TypeError, match=r"pairs\[1\] is .* expected two texts"):
            tiny_model.compute_score([pairs[0], wrong])
    only_colbert = tiny_model.compute_score(pairs, weights=(0, 0, 1))
    assert only_colbert["colbert+sparse+dense"] == only_colbert["colbert"]
    assert np.isnan(only_colbert["sparse+dense"]).all()
    for weights in ((-1, 2, -1), (0, 0, 0), (float("nan"), 1, 1), (None, 1, 1), "abc", 0.5, ("1", "x", "2")):
        with pytest.raises(ValueError, match="weights must be three numbers"):
            tiny_model.compute_score(pairs, weights=weights)
    with pytest.raises(ValueError, match="weights must be three numbers"):
        tiny_model.compute_score(pairs, weights=(1, 1))


def test_a_closed_model_says_so(tiny_checkpoint: Path) -> None:
    with M3Model.load(tiny_checkpoint) as model:
        model.encode(["a"])
    with pytest.raises(TrivecError, match="the model is closed"):
        model.encode(["a"])


def test_device_and_precision(tiny_checkpoint: Path) -> None:
    for device in ("cpu", "CPU", ["cpu"], None):
        M3Model.load(tiny_checkpoint, device=device, num_threads=1).close()
    with pytest.raises(ValueError, match=r"precision='int4' is not one of 'auto', 'fp32'"):
        M3Model.load(tiny_checkpoint, precision="int4")
    with pytest.raises(ValueError, match="num_threads=0"):
        M3Model.load(tiny_checkpoint, num_threads=0)
    assert M3Model.load(tiny_checkpoint, precision="fp32").precision == "fp32"
    assert M3Model.load(tiny_checkpoint).precision in {"fp32", "bf16"}


def test_progress_only_on_long_work(tiny_model: M3Model, capfd: pytest.CaptureFixture[str]) -> None:
    tiny_model.encode(TEXTS)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("small_windows")
def test_progress_on_long_work_can_be_switched_off(
    tiny_model: M3Model, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivec.support.progress, "_DELAY", 0.0)
    tiny_model.encode(TEXTS, show_progress=False)
    assert capfd.readouterr().err == ""
    tiny_model.encode(TEXTS)
    assert f"{len(TEXTS)} of {len(TEXTS)} texts" in capfd.readouterr().err


def test_published_counts_of_the_milvus_page(xlmr_tokenizer: Path, published: dict, tmp_path: Path) -> None:
    """With every lexical weight positive, what is stored is the number of distinct tokens, as the page prints it."""
    from random_checkpoint import TINY, write_random_checkpoint
    from trivec import BGEM3EmbeddingFunction

    config = TINY.__class__(**(vars(TINY) | {"hidden_size": 1024, "num_layers": 1, "num_heads": 16}))
    folder = write_random_checkpoint(tmp_path / "m", config, tokenizer=xlmr_tokenizer, sparse_bias=1e4)
    page = published["milvus_docs_bge_m3_page"]
    bge_m3_ef = BGEM3EmbeddingFunction(str(folder))
    assert bge_m3_ef.dim["dense"] == page["dim"]["dense"] == 1024
    assert bge_m3_ef.dim["sparse"] == page["dim"]["sparse"] == 250_002
    documents = bge_m3_ef.encode_documents(page["documents"])
    assert documents["sparse"].nnz == page["documents_sparse_nnz"] == 43
    assert documents["dense"][0].shape == tuple(page["dense_row_shape"])
    assert list(documents["sparse"])[0].shape == tuple(page["sparse_row_shape"])  # noqa: RUF015 -- as the page writes it
    assert bge_m3_ef.encode_queries(page["queries"])["sparse"].nnz == page["queries_sparse_nnz"] == 14
