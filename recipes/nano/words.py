"""nano's word vectors: a bag of words trained on the same batches as the model, in a minute or two.

Each piece has a vector and a gain; a text is the sum of its vectors times exp(gain), scaled to unit length, and texts
that belong together are to be closer than others (InfoNCE). Started from a truncated SVD of the (piece x aligned text)
tf-idf matrix, this aligns the languages far better than the factorisation alone, and a step costs a few milliseconds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from data import Split
    from trivec.training.batches import BatchSource

TEMPERATURE = 0.05
OWN_LENGTH = 0.3  # of the random part that tells a piece from its neighbours, beside 1 for the SVD's vector


def aligned_columns(split: Split) -> list[list[str]]:
    """Texts that mean the same, one list for each column of the matrix."""
    aligned: dict[str, list[str]] = {}
    for passage in split.passages:
        if passage.aligned:
            aligned.setdefault(passage.aligned, []).append(" ".join([passage.text, *passage.questions]))
    columns = list(aligned.values())
    for document in split.documents:
        columns += [list(sentence.values()) for sentence in document]
        for start in range(0, len(document), 6):  # neighbouring sentences share a topic
            columns.append([text for sentence in document[start : start + 6] for text in sentence.values()])
    for _, pairs in sorted(split.pairs.items()):
        columns += [[text, english] for text, english, _ in pairs]
    return columns


def factorised_vectors(
    tokenizer: Tokenizer, columns: list[list[str]], dim: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Truncated SVD of the tf-idf matrix, by random projection with power iterations.

    Args:
        tokenizer: nano's tokenizer.
        columns: Texts of each column.
        dim: Number of dimensions.
        seed: Of the projection.

    Returns:
        (pieces, dim) float32 vectors of unit length (zero for pieces never seen), left singular vectors times the
        square root of the singular values, and (pieces,) float32 idf.
    """
    flat = [text for column in columns for text in column]
    owner = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
    pieces = tokenizer.get_vocab_size()
    document_frequency = np.zeros(pieces)
    rows, cols, values = [], [], []
    for start in range(0, len(flat), 4096):
        encodings = tokenizer.encode_batch_fast(flat[start : start + 4096], add_special_tokens=False)
        for column, encoding in zip(owner[start : start + 4096], encodings, strict=True):
            counts = Counter(encoding.ids)
            ids = np.fromiter(counts.keys(), dtype=np.int64)
            document_frequency[ids] += 1
            rows.append(ids)
            cols.append(np.full(len(ids), column))
            values.append(1 + np.log(np.fromiter(counts.values(), dtype=np.float32)))
    idf = np.log((len(flat) + 1) / (document_frequency + 1)).astype(np.float32)
    row = np.concatenate(rows)
    weight = (np.concatenate(values) * idf[row]).astype(np.float32)
    matrix = sp.csr_array((weight, (row, np.concatenate(cols))), shape=(pieces, len(columns)))
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(0)).ravel())
    matrix = (matrix @ sp.diags_array(1 / np.maximum(norm, 1e-6))).tocsr().astype(np.float32)

    projection = np.random.default_rng(seed).standard_normal((pieces, dim + 16)).astype(np.float32)
    basis = matrix.T @ projection
    for _ in range(2):
        basis, _ = np.linalg.qr(matrix @ basis)
        basis, _ = np.linalg.qr(matrix.T @ basis)
    left, singular, _ = np.linalg.svd(matrix @ basis, full_matrices=False)
    vectors = left[:, :dim] * np.sqrt(singular[:dim])
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0).astype(np.float32), idf


def train_words(
    vectors: np.ndarray, idf: np.ndarray, source: BatchSource, steps: int, seed: int, learning_rate: float = 1e-2
) -> tuple[np.ndarray, np.ndarray]:
    """Train the bag of words.

    Args:
        vectors: (pieces, dim) to start from.
        idf: (pieces,), the standardised form of which the gains start from.
        source: Batches.
        steps: Number of steps.
        seed: Of the random part of the vectors.
        learning_rate: Highest rate, falling linearly to 0.

    Returns:
        (pieces, dim) vectors of unit length and (pieces,) gains: log of the weight in the sum.
    """
    generator = torch.Generator().manual_seed(seed)
    own = functional.normalize(torch.randn(vectors.shape, generator=generator), dim=1)
    words = torch.nn.Parameter(functional.normalize(torch.from_numpy(vectors) + OWN_LENGTH * own, dim=1))
    gains = torch.nn.Parameter(torch.from_numpy((idf - idf.mean()) / idf.std()))
    optimizer = torch.optim.AdamW([words, gains], lr=learning_rate, weight_decay=0.0, fused=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        batch = source.batch(step)
        queries, passages = (_bags(side, words, gains) for side in (batch.queries, batch.passages))
        loss = functional.cross_entropy(queries @ passages.T / TEMPERATURE, torch.arange(len(queries)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    length = words.detach().norm(dim=1).clamp_min(1e-6)
    gains_of_unit = gains.detach() + length.log()
    return (words.detach() / length[:, None]).numpy(), gains_of_unit.numpy()


def _bags(texts: list[list[int]], words: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """(texts, dim): weighted sums of the pieces between `<s>` and `</s>`, of unit length."""
    flat = torch.tensor([token for text in texts for token in text[1:-1]])
    starts = torch.tensor([0, *np.cumsum([len(text) - 2 for text in texts])[:-1].tolist()])
    weights = gains.exp()[flat]
    sums = functional.embedding_bag(flat, words, starts, mode="sum", per_sample_weights=weights)
    return functional.normalize(sums, dim=-1)
