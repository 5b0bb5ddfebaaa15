"""trivec's training against FlagEmbedding 1.4.2: same weights, same batch, same loss and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from random_checkpoint import write_random_checkpoint
from trivec.training.batches import TokenBatch
from trivec.training.gradients import backward
from trivec.training.losses import LossSettings
from trivec.training.m3 import TrainableM3
from trivec.training.result_folder import load_trainable, write_model_folder

VOCABULARY = range(4, 90)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("training-parity") / "tiny", sparse_bias=0.1)


def random_batch(seed: int, *, queries: int = 4, group: int = 2, lengths: tuple[int, ...] = (9, 17)) -> TokenBatch:
    """Queries and passages that share tokens; of one length each where `lengths` has two numbers."""
    draw = np.random.default_rng(seed)

    def text(length: int) -> list[int]:
        return [0, *draw.choice(VOCABULARY, length - 2).tolist(), 2]

    passages = [text(lengths[-1]) for _ in range(queries * group)]
    return TokenBatch("test", [text(lengths[0]) for _ in range(queries)], passages)


def flag_embedding_model(checkpoint: Path, **options: object):
    """FlagEmbedding's trainable model with the checkpoint's weights, dropout off."""
    from FlagEmbedding.finetune.embedder.encoder_only.m3 import EncoderOnlyEmbedderM3Model
    from FlagEmbedding.finetune.embedder.encoder_only.m3.runner import EncoderOnlyEmbedderM3Runner
    from transformers import AutoTokenizer

    base = EncoderOnlyEmbedderM3Runner.get_model(str(checkpoint), colbert_dim=-1)
    model = EncoderOnlyEmbedderM3Model(
        base,
        tokenizer=AutoTokenizer.from_pretrained(str(checkpoint)),
        temperature=0.02,
        normalize_embeddings=True,
        unified_finetuning=True,
        **options,
    )
    model.train()
    model.model.eval()
    return model.float()


def padded(texts: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, texts))
    return {
        "input_ids": torch.tensor([text + [1] * (longest - len(text)) for text in texts]),
        "attention_mask": torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts]),
    }


def their_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    names = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            names[name.replace("model.", "encoder.", 1) if name.startswith("model.") else name] = parameter.grad
    return names


def our_gradients(model: TrainableM3) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("self_distill", "teacher"), [(False, False), (True, False), (True, True)], ids=["plain", "distilled", "teacher"]
)
@pytest.mark.parametrize("part_size", [None, 3])
def test_an_unpadded_batch_has_flag_embeddings_loss_and_gradients(
    checkpoint: Path, self_distill: bool, teacher: bool, part_size: int | None
):
    batch = random_batch(1)
    scores = [[0.9, 0.1], [2.0, 1.0], [0.5, 0.4], [3.0, -1.0]] if teacher else None
    theirs = flag_embedding_model(checkpoint, use_self_distill=self_distill, kd_loss_type="kl_div")
    loss = theirs(padded(batch.queries), padded(batch.passages), teacher_scores=scores).loss
    loss.backward()

    ours = load_trainable(checkpoint)
    batch = TokenBatch(batch.source, batch.queries, batch.passages, scores)
    settings = LossSettings(self_distill=self_distill)
    result = backward(ours, batch, settings, part_size=part_size, pad_multiple=1)

    assert result.loss == pytest.approx(loss.item(), abs=1e-5)
    wanted, got = their_gradients(theirs), our_gradients(ours)
    compared = [name for name in wanted if "pooler" not in name]
    assert set(compared) == set(got)
    for name in compared:
        largest = wanted[name].abs().max().clamp_min(1.0)
        assert (wanted[name] - got[name]).abs().max() <= 1e-4 * largest, name


def test_padding_changes_flag_embeddings_maxsim_but_not_ours(checkpoint: Path):
    """Theirs multiplies padded token vectors by zero: similarity 0, which beats any negative one."""
    from trivec.training.scores import maxsim_scores

    dim = 8
    query = torch.zeros(1, 2, dim)
    query[..., 0] = 1.0
    passage = torch.zeros(1, 3, dim)
    passage[:, :2, 0] = -1.0  # two tokens opposite to the query, then padding
    mask = torch.tensor([[1, 1, 0]])
    theirs = flag_embedding_model(checkpoint)
    masked = passage * mask[..., None]
    their_score = theirs.compute_colbert_score(query, masked, q_mask=torch.ones(1, 3)) * theirs.temperature
    assert their_score.item() == 0.0
    assert maxsim_scores(query, torch.ones(1, 2), passage, mask).item() == -1.0
    assert maxsim_scores(query, torch.ones(1, 2), passage[:, :2], mask[:, :2]).item() == -1.0


def test_flag_embedding_loads_a_written_folder_with_equal_outputs(checkpoint: Path, tmp_path: Path):
    from FlagEmbedding import BGEM3FlagModel

    from trivec import M3Model

    model = load_trainable(checkpoint)
    with torch.no_grad():
        for parameter in model.parameters():  # not the weights it was read with
            parameter.mul_(1.01)
    write_model_folder(model, tmp_path / "result", checkpoint)
    texts = ["What is BGE M3?", "Ein Boot auf dem See", "船在湖上"]
    wanted = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
    theirs = BGEM3FlagModel(str(tmp_path / "result"), use_fp16=False, devices="cpu").encode(texts, **wanted)
    with M3Model.load(tmp_path / "result", precision="fp32") as written:
        ours = written.encode(texts, show_progress=False, **wanted)
    assert np.abs(ours.dense - theirs["dense_vecs"]).max() <= 1e-5
    for row in range(len(texts)):
        weights = ours.sparse[row].toarray().ravel()
        expected = np.zeros_like(weights)
        for token, weight in theirs["lexical_weights"][row].items():
            expected[int(token)] = weight
        assert np.abs(weights - expected).max() <= 1e-5
        assert np.abs(ours.colbert_vecs[row] - theirs["colbert_vecs"][row]).max() <= 1e-5
