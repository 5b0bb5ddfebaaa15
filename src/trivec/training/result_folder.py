"""Model folders in BAAI/bge-m3's layout: read into a trainable model, and written from one, then checked.

Reading goes through `trivec.checkpoint`. What is written is loaded again by trivec's inference engine and compared
with the PyTorch model before anybody is told that it is there.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trivec.checkpoint import open_checkpoint
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.errors import TrivecError
from trivec.model import M3Model
from trivec.support.part_files import replacing
from trivec.training.losses import HEADS
from trivec.training.m3 import TrainableM3, pad_token_ids
from trivec.training.weights import load_weights, save_weights

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model")


class ResultError(TrivecError):
    """The written model folder does not give what the trained model gives."""


def load_trainable(name_or_path: str | Path, heads: Sequence[str] = HEADS) -> TrainableM3:
    """Read a model to train.

    Args:
        name_or_path: A folder or a hub id.
        heads: Those it must have (of dense, sparse, colbert): a new one starts from chance where the checkpoint has
            none. Heads the checkpoint has beside them are read too, so that no result loses one.

    Returns:
        The model, in float32.

    Raises:
        CheckpointError: The checkpoint is missing, damaged or of another architecture.
    """
    checkpoint = open_checkpoint(name_or_path)
    model = TrainableM3(
        checkpoint.config,
        M3Tokenizer(checkpoint.tokenizer_file).unused_ids,
        sparse="sparse" in heads or checkpoint.sparse_linear is not None,
        colbert="colbert" in heads or checkpoint.colbert_linear is not None,
    )
    load_weights(model.encoder, checkpoint.encoder)
    for name, linear, stored in (
        ("sparse", model.sparse_linear, checkpoint.sparse_linear),
        ("colbert", model.colbert_linear, checkpoint.colbert_linear),
    ):
        if linear is not None and stored is not None:
            load_weights(linear, {"weight": stored.weight, "bias": stored.bias})
        elif linear is not None:
            logger.warning("%s has no %s head: a new one is trained from chance", name_or_path, name)
    return model


def write_model_folder(
    model: TrainableM3,
    folder: Path,
    tokenizer_folder: Path,
    *,
    half: bool = False,
    fusion_weights: tuple[float, float, float] | None = None,
) -> None:
    """Write a model in BAAI/bge-m3's layout.

    Args:
        model: The model.
        folder: Where to; files of the same names are replaced.
        tokenizer_folder: Folder whose tokenizer files are copied.
        half: Whether to store float16 instead of float32.
        fusion_weights: Weights of dense, sparse and multi-vector scores in their sum, stored in config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    save_weights(model.encoder, folder / WEIGHTS, half=half)
    for name, linear in (("sparse_linear.pt", model.sparse_linear), ("colbert_linear.pt", model.colbert_linear)):
        if linear is not None:
            with replacing(folder / name) as part:
                torch.save({key: value.detach().cpu().to(dtype) for key, value in linear.state_dict().items()}, part)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier model: it would be taken for this one's
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file() and tokenizer_folder.resolve() != folder.resolve():
            with replacing(folder / name) as part:
                shutil.copyfile(tokenizer_folder / name, part)
    config = model.config.hugging_face("float16" if half else "float32")
    if fusion_weights is not None:
        config["trivec"] = {"fusion_weights": list(fusion_weights)}
    with replacing(folder / "config.json") as part:  # the last, as no folder is a model without it
        part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def check_model_folder(model: TrainableM3, folder: Path, texts: Sequence[str], *, tolerance: float = 1e-4) -> float:
    """Load a written folder with trivec's inference engine and compare its vectors with the model's.

    Args:
        model: The model that was written, holding exactly the stored weights (rounded, if they are).
        folder: The folder.
        texts: Texts to compare on.
        tolerance: Largest difference allowed in any component.

    Returns:
        The largest difference found.

    Raises:
        ResultError: A difference is larger, or an output is missing.
    """
    differences = []
    with M3Model.load(folder, precision="fp32") as written:
        embeddings = written.encode(
            texts,
            return_dense=True,
            return_sparse=model.sparse_linear is not None,
            return_colbert_vecs=model.colbert_linear is not None,
            show_progress=False,
        )
        ids = [list(row) for row in written.tokenizer.encode_batch(texts, written.max_length).token_ids]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for row, text_ids in enumerate(ids):
            device = model.encoder.embeddings.word_embeddings.weight.device
            own = model(*pad_token_ids([text_ids], model.config.pad_token_id, device=device))
            embedding = embeddings[row]
            differences.append(np.abs(embedding.dense - own.dense[0].cpu().numpy()).max())
            if own.weights is not None and embedding.sparse is not None:
                expected = np.zeros(model.config.vocab_size, dtype=np.float32)
                np.maximum.at(expected, text_ids, own.weights[0].cpu().numpy())
                differences.append(np.abs(embedding.sparse.toarray().ravel() - expected).max())
            if own.vectors is not None:
                differences.append(np.abs(embedding.colbert_vecs - own.vectors[0].cpu().numpy()).max())
    model.train(was_training)
    worst = float(max(differences))
    if not worst <= tolerance:
        raise ResultError(f"{folder} gives other vectors than the trained model: they differ by {worst:.2g}")
    return worst


def round_to_half(model: TrainableM3) -> None:
    """Round the model's weights to what a float16 file holds."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
