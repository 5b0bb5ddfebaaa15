"""The torch engine: the same vectors as OpenVINO's, from packed batches of any size; devices, memory, precision."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sample_texts import SENTENCES
from trivec import BGEM3EmbeddingFunction, M3Embeddings, M3Model
from trivec.engines import Heads
from trivec.errors import DeviceError, TrivecError
from trivec.vectors.sparse import pool_lexical_weights

torch = pytest.importorskip("torch", reason="needs torch: run `make parity`")

from trivec.checkpoint import open_checkpoint  # noqa: E402
from trivec.cli.app import run  # noqa: E402
from trivec.engines.pytorch import attention as torch_attention  # noqa: E402
from trivec.engines.pytorch import engine as torch_engine  # noqa: E402
from trivec.engines.pytorch.devices import devices_there, exact_float32, is_shortage, resolve_precision  # noqa: E402
from trivec.engines.pytorch.encoder import PackedEncoder, PackedTexts  # noqa: E402
from trivec.engines.pytorch.engine import TorchEngine, tokens_a_batch  # noqa: E402
from trivec.engines.pytorch.heads import TorchHeads, sparse_rows  # noqa: E402

TEXTS = [text for texts in SENTENCES.values() for text in texts]
MIXED = [*TEXTS, "", " ", *TEXTS[:4], "<pad> spelled <s> out </s>", " ".join(TEXTS)]
TOLERANCE = 1e-5
CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, which is not on this machine")


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Iterator[M3Model]:
    with M3Model.load(tiny_checkpoint, device="cpu", engine="torch", precision="fp32") as loaded:
        yield loaded


def assert_close(got: M3Embeddings, wanted: M3Embeddings, tolerance: float = TOLERANCE) -> None:
    assert len(got) == len(wanted)
    assert np.abs(got.dense - wanted.dense).max() <= tolerance
    assert got.sparse.shape == wanted.sparse.shape
    assert abs(got.sparse - wanted.sparse).max() <= tolerance
    for ours, other in zip(got.colbert_vecs, wanted.colbert_vecs, strict=True):
        assert ours.shape == other.shape
        assert np.abs(ours - other).max() <= tolerance


@pytest.mark.parametrize("tokens", [256, None, 256_000])
def test_same_vectors_in_input_order_whatever_the_batch(
    tokens: int | None, model: M3Model, tiny_model: M3Model
) -> None:
    texts = random.Random(3).sample(MIXED, len(MIXED))
    got = model.encode(texts, max_batch_tokens=tokens, return_colbert_vecs=True)
    assert_close(got, tiny_model.encode(texts, return_colbert_vecs=True))
    assert got.sparse.has_canonical_format
    assert {got.dense.dtype, got.sparse.dtype, got.colbert_vecs[0].dtype} == {np.dtype(np.float32)}


def test_neighbours_do_not_matter(model: M3Model) -> None:
    together = model.encode(MIXED, max_batch_tokens=256_000, return_colbert_vecs=True)
    for i, text in enumerate(MIXED):
        alone = model.encode([text], return_colbert_vecs=True)[0]
        assert np.abs(alone.dense - together.dense[i]).max() <= TOLERANCE
        assert abs(alone.sparse - together.sparse[i]).max() <= TOLERANCE
        assert np.abs(alone.colbert_vecs - together.colbert_vecs[i]).max() <= TOLERANCE


def test_only_what_is_asked_for_and_unscaled(model: M3Model, tiny_model: M3Model) -> None:
    sparse_only = model.encode(TEXTS, return_dense=False)
    assert sparse_only.dense is None
    assert sparse_only.colbert_vecs is None
    assert abs(sparse_only.sparse - tiny_model.encode(TEXTS).sparse).max() <= TOLERANCE
    raw = model.encode(TEXTS, return_sparse=False, return_colbert_vecs=True, normalize=False)
    wanted = tiny_model.encode(TEXTS, return_sparse=False, return_colbert_vecs=True, normalize=False)
    assert raw.sparse is None
    assert raw.dense == pytest.approx(wanted.dense, abs=1e-4)
    assert raw.colbert_vecs[0] == pytest.approx(wanted.colbert_vecs[0], abs=1e-4)


@pytest.mark.parametrize("device", [["cpu", "cpu"], ["cpu"] * 3])
def test_devices_share_the_work(device: list[str], tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    with M3Model.load(tiny_checkpoint, device=device, engine="torch", precision="fp32") as shared:
        assert shared.precision == "fp32"
        for texts in (MIXED, MIXED[:2], MIXED[:1]):
            wanted = tiny_model.encode(texts, return_colbert_vecs=True)
            assert_close(shared.encode(texts, max_batch_tokens=256, return_colbert_vecs=True), wanted)
    with pytest.raises(TrivecError, match="the model is closed"):
        shared.encode(TEXTS)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_precision_from_every_checkpoint(precision: str, dtype: str, tmp_path: Path) -> None:
    from random_checkpoint import write_random_checkpoint

    folder = write_random_checkpoint(tmp_path / "m", dtype=dtype)
    exact = M3Model.load(folder, precision="fp32").encode(MIXED)
    with M3Model.load(folder, device="cpu", engine="torch", precision=precision) as fast:
        got = fast.encode(MIXED)
        assert fast.precision == precision
    assert (got.dense * exact.dense).sum(axis=1).min() >= 0.9995
    assert abs(got.sparse - exact.sparse).max() <= {"fp32": TOLERANCE, "fp16": 2e-3, "bf16": 1e-2}[precision]


def test_pooling_equals_that_of_the_host(tiny_checkpoint: Path) -> None:
    draw = np.random.default_rng(1)
    unused = [0, 1, 2, 3]
    token_ids = [draw.integers(0, 12, n).astype(np.int32) for n in (40, 17, 17, 2, 1)]
    weights = [np.maximum(draw.normal(size=len(ids)), 0).astype(np.float32) for ids in token_ids]
    wanted = pool_lexical_weights(token_ids, weights, 1005, unused)

    packed = PackedTexts.pack(token_ids, 1, CPU)
    heads = TorchHeads(open_checkpoint(tiny_checkpoint), CPU, 1005, unused)
    cells, pooled = heads._pooled(torch.from_numpy(np.concatenate(weights)), packed)
    got = sparse_rows(cells.numpy(), pooled.numpy(), len(token_ids), 1005)
    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(got, part), getattr(wanted, part))


def test_the_host_pools_where_the_device_does_not(
    model: M3Model, tiny_model: M3Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._engine._heads, "_pools", False)  # as on "mps"
    got = model.encode(MIXED, max_batch_tokens=256_000, return_colbert_vecs=True)
    assert_close(got, tiny_model.encode(MIXED, return_colbert_vecs=True))


class Shortage:
    """Stands before an encoder like an allocator with room for so many tokens, and notes the batches that went through.

    A CPU has no `torch.OutOfMemoryError` of its own, so it is raised where a GPU would: inside the encoder.
    """

    def __init__(self, engine: TorchEngine, room: int) -> None:
        self.encoder, self.room, self.computed = engine._encoder, room, []
        engine._encoder = self

    def __call__(self, texts: PackedTexts) -> torch.Tensor:
        if len(texts.token_ids) > self.room:
            raise torch.OutOfMemoryError("no room")
        self.computed.append(len(texts.token_ids))
        return self.encoder(texts)


def test_running_out_of_memory_halves_batches_and_loses_nothing(model: M3Model, tiny_checkpoint: Path) -> None:
    texts = [*TEXTS, " ".join(TEXTS[:10])]
    wanted = model.encode(texts, return_colbert_vecs=True)
    tokens = [len(vectors) + 1 for vectors in wanted.colbert_vecs]
    with M3Model.load(tiny_checkpoint, device="cpu", engine="torch", precision="fp32") as small:
        shortage = Shortage(small._engine, max(tokens))
        assert_close(small.encode(texts, max_batch_tokens=256_000, return_colbert_vecs=True), wanted)
        assert sum(shortage.computed) == sum(tokens), "a batch was computed twice, or not at all"
        assert 1 < len(shortage.computed) < len(texts)
        first = len(shortage.computed)
        small.encode(texts, max_batch_tokens=256_000)
        assert len(shortage.computed) == 2 * first, "what did not fit once is not tried again"


def test_a_text_that_does_not_fit_is_named_after_the_others_came_out(model: M3Model, tiny_checkpoint: Path) -> None:
    engine = M3Model.load(tiny_checkpoint, device="cpu", engine="torch", precision="fp32")._engine
    token_ids = model.tokenizer.encode_batch([TEXTS[0]] * 3, 1024).token_ids
    engine._token_limit = len(token_ids[0])
    shortage = Shortage(engine, len(token_ids[0]))
    batches = engine.encode(token_ids, Heads(), 4096)
    received = [next(batches)]
    shortage.room = 1  # from the third text on: the second is computed already, and must still come out
    with pytest.raises(DeviceError, match=rf"a text of {len(token_ids[0])} tokens does not fit .*max_length"):
        received.extend(batches)
    assert sorted(int(i) for texts, _ in received for i in texts) == [0, 1]


def test_what_counts_as_a_shortage() -> None:
    cublas = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    for error in (
        torch.OutOfMemoryError("x"),
        RuntimeError(cublas),
        torch.AcceleratorError("CUDA error: out of memory"),
    ):
        assert is_shortage(error)
    for error in (RuntimeError("out of memory"), torch.AcceleratorError("CUDA error: an illegal memory access")):
        assert not is_shortage(error)


@pytest.mark.parametrize(
    ("total", "asked", "fitting", "wanted"),
    [
        (1_000_000, None, 10**9, 32_768),  # a full window: as much as a GPU does well with
        (25_000, None, 10**9, 8_192),  # a window of token vectors: several batches, to copy beside computing
        (100_000, None, 10**9, 25_000),
        (100_000, 60_000, 10**9, 60_000),  # more than that, or less, if so asked
        (100_000, 700, 10**9, 700),
        (1_000_000, 60_000, 3000, 3000),  # little memory
    ],
)
def test_tokens_of_a_batch_on_a_gpu(total: int, asked: int | None, fitting: int, wanted: int) -> None:
    assert tokens_a_batch(total, asked, fitting) == wanted


def test_attention_in_groups_is_that_of_each_text_alone() -> None:
    generator = torch.Generator().manual_seed(5)
    lengths = [300, 299, 290, 90, 90, 90, 40, 7, 7, 2, 1]
    query, key, value = (torch.randn(sum(lengths), 4, 8, generator=generator) for _ in range(3))
    got = torch_attention.attention_in_groups(lengths, CPU)(query, key, value)
    start = 0
    for length in lengths:
        q, k, v = (t[start : start + length].transpose(0, 1) for t in (query, key, value))  # (4, length, 8)
        alone = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v
        assert torch.allclose(got[start : start + length], alone.transpose(0, 1), atol=1e-5)
        start += length


def test_variable_length_attention_is_called_as_torch_declares_it(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes and types only, on torch's device without numbers: the kernel itself needs a GPU (see below)."""
    monkeypatch.setattr(torch_attention, "has_variable_length_attention", lambda *_: True)
    monkeypatch.setattr(torch_attention, "attention_in_groups", None)
    meta = torch.device("meta")
    encoder = PackedEncoder(open_checkpoint(tiny_checkpoint), meta, torch.bfloat16)
    ids, boundaries = (torch.empty(size, dtype=torch.int32, device=meta) for size in (20, 4))
    hidden = encoder(PackedTexts([9, 7, 4], ids, ids, boundaries))
    assert (hidden.shape, hidden.dtype) == ((20, 32), torch.bfloat16)


def test_the_command_line_chooses_engine_and_devices(
    tiny_checkpoint: Path, tiny_model: M3Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(TEXTS[0], encoding="utf-8")
    command = ["encode", str(tmp_path / "a.txt"), "--out", str(tmp_path / "a.npz"), "-m", str(tiny_checkpoint)]
    assert run([*command, "--engine", "torch", "--device", "cpu, cpu", "--precision", "fp32"]) == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["dense"] == pytest.approx(tiny_model.encode(TEXTS[:1]).dense, abs=TOLERANCE)
    assert run([*command, "--force", "--device", "cuda:99"]) != 0
    assert "--device cuda:99 is not available" in capsys.readouterr().err


def test_devices_that_are_not_there(tiny_checkpoint: Path) -> None:
    assert devices_there()[-1] == "cpu"
    with pytest.raises(DeviceError, match=r"device='cuda:99' is not available: torch .* finds .*'cpu' here"):
        M3Model.load(tiny_checkpoint, device=["cpu", "cuda:99"])
    with pytest.raises(
        DeviceError, match=r'precision="int8" .*: the torch engine computes in "fp32", "fp16" and "bf16"'
    ):
        M3Model.load(tiny_checkpoint, device="cpu", engine="torch", precision="int8")
    assert resolve_precision("auto", CPU) == "fp32"


def test_a_torch_that_is_too_old_says_so(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.6.0+cpu"))
    with pytest.raises(DeviceError, match=r"torch 2.6.0\+cpu is too old .*torch>=2.10"):
        M3Model.load(tiny_checkpoint, device="cpu", engine="torch")


def test_mps_needs_a_torch_that_computes_right_there(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "mps" in devices_there()
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.12.1"))
    assert "mps" not in devices_there()
    with pytest.raises(DeviceError, match=r"torch 2.12.1 computes wrong numbers on device='mps': .*torch>=2.13"):
        M3Model.load(tiny_checkpoint, device="mps")


def test_without_a_device_the_best_there_is(tiny_checkpoint: Path) -> None:
    with M3Model.load(tiny_checkpoint, engine="torch") as loaded:
        assert loaded._engine._device == torch.device(devices_there()[0])


def set_by_the_older_way() -> None:
    torch.set_float32_matmul_precision("medium")


def set_by_the_newer_way() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def set_by_both_ways() -> None:
    set_by_the_older_way()
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def test_inherited_precision_goes_on_being_inherited(model: M3Model) -> None:
    newer = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    wide = torch.backends.fp32_precision
    try:
        for setting in newer:
            setting.fp32_precision = "none"
        torch.backends.fp32_precision = "tf32"
        model.encode(TEXTS)
        assert [setting.fp32_precision for setting in newer] == ["tf32", "tf32"]
        torch.backends.fp32_precision = "ieee"
        assert [setting.fp32_precision for setting in newer] == ["ieee", "ieee"]
    finally:
        torch.backends.fp32_precision = wide
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("set_precision", [set_by_the_older_way, set_by_the_newer_way, set_by_both_ways])
def test_float32_is_exact_whatever_the_program_has_set(set_precision: Callable[[], None], model: M3Model) -> None:
    wanted = model.encode(TEXTS)
    newer = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    set_precision()
    try:
        before = [setting.fp32_precision for setting in newer]
        assert np.array_equal(model.encode(TEXTS).dense, wanted.dense)
        with exact_float32(), exact_float32():
            assert [setting.fp32_precision for setting in newer] == ["ieee", "ieee"]
            assert not torch.backends.cuda.matmul.allow_tf32  # raises if the two ways contradict each other
        assert [setting.fp32_precision for setting in newer] == before
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_around_changes_nothing(dtype: torch.dtype, model: M3Model) -> None:
    wanted = model.encode(MIXED, return_colbert_vecs=True)
    with torch.autocast("cpu", dtype=dtype):
        got = model.encode(MIXED, return_colbert_vecs=True)
    assert np.array_equal(got.dense, wanted.dense)
    assert np.array_equal(got.sparse.data, wanted.sparse.data)


def test_a_default_device_around_changes_nothing(tiny_checkpoint: Path, model: M3Model) -> None:
    with torch.device("meta"), M3Model.load(tiny_checkpoint, device="cpu", engine="torch") as loaded:
        got = loaded.encode(MIXED, return_colbert_vecs=True)
    assert_close(got, model.encode(MIXED, return_colbert_vecs=True), tolerance=0)


def test_page_locked_memory_is_the_hosts_whatever_the_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the locking itself, which needs a GPU."""
    empty, tensor = torch.empty, torch.ones(2)

    def empty_without(*shape: object, pin_memory: bool, **how: object) -> torch.Tensor:
        assert pin_memory
        return empty(*shape, **how)

    monkeypatch.setattr(torch, "empty", empty_without)
    with torch.device("meta"):
        assert torch_engine.page_locked_like(tensor).device == CPU


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    from random_checkpoint import write_random_checkpoint, write_torch_file

    folder = write_random_checkpoint(tmp_path / "m")
    head = {"weight": np.full((1, 32), np.nan, np.float32), "bias": np.zeros(1, np.float32)}
    write_torch_file(folder / "sparse_linear.pt", head, 0, "F32")
    with (
        M3Model.load(folder, device="cpu", engine="torch") as damaged,
        pytest.raises(TrivecError, match="not finite numbers"),
    ):
        damaged.encode(TEXTS)


def test_threads_share_a_model(model: M3Model) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted = model.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for part in pool.map(lambda start: model.encode(TEXTS[start:], show_progress=False), range(12)):
            assert np.abs(part.dense - wanted.dense[-len(part) :]).max() <= TOLERANCE


def tensors() -> int:
    gc.collect()
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


def test_weights_that_do_not_fit_are_let_go_before_that_is_said(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    def memory(_engine: TorchEngine) -> str:
        return f"cpu, with {tensors()} tensors"

    before = tensors()
    monkeypatch.setattr(torch_engine, "TorchHeads", no_room)  # when the encoder is there already
    monkeypatch.setattr(TorchEngine, "_memory", memory)
    with pytest.raises(DeviceError, match=f"fp32 do not fit into the memory of cpu, with {before} tensors") as caught:
        M3Model.load(tiny_checkpoint, device="cpu", engine="torch", precision="fp32")
    assert tensors() == before, "the error keeps the weights alive"
    assert caught.value.__context__ is None


def test_devices_loaded_before_one_that_fails_are_let_go(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[TorchEngine] = []

    class SecondFails(TorchEngine):
        def __init__(self, *arguments: object) -> None:
            if loaded:
                raise DeviceError("no room on the second device")
            super().__init__(*arguments)
            loaded.append(self)

    before = tensors()
    monkeypatch.setattr(torch_engine, "TorchEngine", SecondFails)
    with pytest.raises(DeviceError, match="no room on the second device"):
        M3Model.load(tiny_checkpoint, device=["cpu", "cpu"], engine="torch")
    assert len(loaded) == 1
    assert tensors() == before


def test_a_closed_model_says_so_and_has_let_go_of_its_weights(tiny_checkpoint: Path) -> None:
    before = tensors()
    with M3Model.load(tiny_checkpoint, device="cpu", engine="torch") as loaded:
        loaded.encode(TEXTS)
        assert tensors() > before
    assert tensors() == before
    with pytest.raises(TrivecError, match="the model is closed"):
        loaded.encode(["a"])


@needs_cuda
def test_cuda_gives_the_vectors_of_the_cpu(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    wanted = tiny_model.encode(MIXED, return_colbert_vecs=True)
    for device in ("cuda", ["cuda:0", "cuda:0"]):
        with M3Model.load(tiny_checkpoint, device=device, precision="fp32") as exact:
            assert_close(exact.encode(MIXED, return_colbert_vecs=True), wanted, tolerance=1e-4)
    with M3Model.load(tiny_checkpoint, device="cuda") as fast:
        assert fast.precision in {"bf16", "fp16"}
        assert BGEM3EmbeddingFunction(tiny_checkpoint, device="cuda", use_fp16=True).model.precision == "fp16"
        got = fast.encode(MIXED, return_colbert_vecs=True)
    assert (got.dense * wanted.dense).sum(axis=1).min() >= 0.9995
    assert abs(got.sparse - wanted.sparse).max() <= 1e-2
    for ours, other in zip(got.colbert_vecs, wanted.colbert_vecs, strict=True):
        assert (ours * other).sum(axis=1).min() >= 0.999


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cuda_variable_length_attention_agrees_with_groups(dtype: torch.dtype) -> None:
    gpu = torch.device("cuda:0")
    if not torch_attention.has_variable_length_attention(gpu, dtype, 64):
        pytest.skip("this GPU or this build of torch has no variable-length attention")
    lengths = [600, 300, 299, 64, 16, 16, 1]
    boundaries = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=gpu)
    fused = torch.randn(sum(lengths), 3, 16, 64, dtype=dtype, device=gpu).unbind(1)
    groups = torch_attention.attention_in_groups(lengths, gpu)(*fused)
    assert torch.allclose(torch_attention.variable_length_attention(lengths, boundaries)(*fused), groups, atol=2e-2)


@needs_cuda
def test_cuda_memory_runs_out_for_real_and_comes_back(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    texts = [" ".join(TEXTS)] * 300

    def load() -> M3Model:
        loaded = M3Model.load(tiny_checkpoint, device="cuda:0", precision="fp32")
        loaded.encode(texts[:1])  # cuBLAS takes memory of its own at first use, and keeps it
        return loaded

    load().close()
    before = torch.cuda.memory_allocated(0)
    with load() as loaded:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(0) + 24e6) / total, 0)
        try:
            got = loaded.encode(texts, return_colbert_vecs=True)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, 0)
        assert loaded._engine._token_limit is not None
        in_use = torch.cuda.memory_reserved(0)
    assert np.abs(got.dense - tiny_model.encode(texts[:1]).dense).max() <= 1e-4
    assert torch.cuda.memory_allocated(0) == before
    assert torch.cuda.memory_reserved(0) < in_use
