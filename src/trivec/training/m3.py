"""The trainable M3 model: encoder, sparse head and ColBERT head, and the three representations of a batch.

It turns token ids into differentiable representations. Scores between representations are in `scores.py`, what is
optimised in `losses.py`, files in `folder.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trivec.checkpoint import M3Config
from trivec.training.trainable_encoder import XLMREncoder


@dataclass(frozen=True)
class Representations:
    """The three representations of `batch` texts, padded at the right to `length` tokens.

    Attributes:
        token_ids: (batch, length) int64.
        mask: (batch, length) int64, 0 for padding.
        dense: (batch, hidden size), of unit length.
        weights: (batch, length) lexical weight of each token, >= 0; zero for special tokens and padding.
            None without a sparse head.
        vectors: (batch, length - 1, hidden size) token vectors of unit length, `<s>` left out. Rows of padding are
            not zero: whoever scores them must mask them. None without a ColBERT head.
    """

    token_ids: Tensor
    mask: Tensor
    dense: Tensor
    weights: Tensor | None
    vectors: Tensor | None

    def __len__(self) -> int:
        return len(self.token_ids)


class TrainableM3(nn.Module):
    """An M3 model with gradients.

    Args:
        config: Sizes of the encoder.
        unused_ids: Token ids without a lexical weight, the tokenizer's own list (`M3Tokenizer.unused_ids`).
        sparse: Whether it has a sparse head.
        colbert: Whether it has a ColBERT head.
    """

    def __init__(
        self, config: M3Config, unused_ids: Sequence[int], *, sparse: bool = True, colbert: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("_unused_ids", torch.tensor(unused_ids), persistent=False)
        self.encoder = XLMREncoder(config)
        self.sparse_linear = nn.Linear(config.hidden_size, 1) if sparse else None
        self.colbert_linear = nn.Linear(config.hidden_size, config.hidden_size) if colbert else None

    def forward(self, token_ids: Tensor, mask: Tensor) -> Representations:
        """Represent a padded batch.

        Args:
            token_ids: (batch, length) int64, padded at the right.
            mask: (batch, length) int64, 1 for a token and 0 for padding.

        Returns:
            Its representations in float32, whatever precision the encoder runs in.
        """
        hidden = self.encoder(token_ids, mask)
        weights = vectors = None
        if self.sparse_linear is not None:
            weights = torch.relu(self.sparse_linear(hidden)).squeeze(-1).float() * self.can_have_weight(token_ids)
        if self.colbert_linear is not None:
            vectors = functional.normalize(self.colbert_linear(hidden[:, 1:]).float(), dim=-1)
        dense = functional.normalize(hidden[:, 0].float(), dim=-1)
        return Representations(token_ids, mask, dense, weights, vectors)

    def can_have_weight(self, token_ids: Tensor) -> Tensor:
        """Whether each token may carry lexical weight: bool, of the shape of `token_ids`."""
        return torch.isin(token_ids, self._unused_ids, invert=True)


def pad_token_ids(
    texts: list[list[int]], pad_token_id: int, *, multiple: int = 1, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Lay texts out as one rectangle.

    Args:
        texts: Token ids of each text.
        pad_token_id: What fills the rest.
        multiple: The length is rounded up to a multiple of this: few distinct shapes run faster.
        device: Where the tensors are to be.

    Returns:
        Token ids and attention mask, both (batch, length) int64.
    """
    longest = max(len(text) for text in texts)
    length = -(-longest // multiple) * multiple
    token_ids = torch.full((len(texts), length), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(texts), length), dtype=torch.int64)
    for row, text in enumerate(texts):
        token_ids[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
        mask[row, : len(text)] = 1
    return token_ids.to(device), mask.to(device)
