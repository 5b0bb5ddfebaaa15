"""What nano starts from: an encoder that is a weighted bag of words, the words being those of `words.py`.

Three dimensions of the hidden state are kept apart: a piece's gain, its rarity, and a mark of `<s>`. The first layer's
attention is set so that `<s>` takes the mean of all tokens weighted by exp(gain), and other tokens look at their own
word wherever it stands, the less the longer the text, or at `<s>`, which has nothing to add: a word's share of what it
looks at rises with its count and falls with the length as BM25's fraction does. Lexical weights start as rarity, token
vectors as word vectors. The other layers start small.

MaxSim counts every token of a query alike. `weigh_token_vectors` turns those of little lexical weight towards one
direction that they all share, so that they match anything, and what is left to tell passages apart is the rest.
The control, `near_identity`, is the same architecture with random weights that leave a token (nearly) itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from trivec.training.m3 import TrainableM3

GAIN, RARITY, MARK, RESERVED = 0, 1, 2, 3
EMBEDDING_SCALE = 0.05
MARK_LEFT = 1.6  # behind the first LayerNorm: enough to address `<s>`, too little to be seen in its mean
SINK_SCORE, OWN_SCORE = 4.0, 5.0  # attention scores, of every other token, of `<s>` and of the same word
# The shared direction's length beside a hidden state's of 1: so much at weight 0, falling by so much for each weight.
SHARED_AT_ZERO, SHARED_FALL = 2.4, 2.2


def near_identity(model: TrainableM3) -> None:
    """Make random weights leave tokens nearly what they are: faint positions and small residual branches."""
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.mul_(EMBEDDING_SCALE / 0.02)
        model.encoder.embeddings.position_embeddings.weight.mul_(0.1)
        model.encoder.embeddings.token_type_embeddings.weight.zero_()
        for layer in model.encoder.encoder.layer:
            layer.attention.output.dense.weight.mul_(0.3)
            layer.output.dense.weight.mul_(0.3)
        if model.sparse_linear is not None:
            model.sparse_linear.weight.mul_(0.1)
            model.sparse_linear.bias.fill_(0.15)


def weighted_bag_of_words(model: TrainableM3, vectors: np.ndarray, gains: np.ndarray, rarity: np.ndarray) -> None:
    """Set a freshly created model so that it starts as a weighted bag of words.

    Args:
        model: The model.
        vectors: (pieces, hidden size - 3) word vectors of unit length.
        gains: (pieces,) log of each piece's weight in the mean.
        rarity: (pieces,) what lexical weights start from.
    """
    near_identity(model)
    size, heads = model.config.hidden_size, model.config.num_heads
    head_size = size // heads
    special = [0, 1, 2, 3, len(vectors) - 1]
    seen = np.ones(len(vectors), dtype=bool)
    seen[special] = False
    spread = gains[seen].std()
    words = np.zeros((len(vectors), size), dtype=np.float32)
    words[:, RESERVED:] = vectors * np.sqrt(size)
    words[:, GAIN] = np.clip((gains - gains[seen].mean()) / spread, -3, 3)
    words[:, RARITY] = np.clip((rarity - rarity[seen].mean()) / rarity[seen].std(), -5, 3)
    words[special] = 0.0
    words[special, GAIN] = -6.0  # nothing worth pooling
    words[0, GAIN] = 0.0
    words[0, MARK] = np.sqrt(size)
    keep = torch.eye(size)
    keep[:RESERVED] = 0.0
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        embeddings = model.encoder.embeddings
        embeddings.word_embeddings.weight.copy_(torch.from_numpy(words * EMBEDDING_SCALE))
        embeddings.LayerNorm.weight[MARK] = MARK_LEFT / np.sqrt(size)
        first = model.encoder.encoder.layer[0].attention
        attend = first.self
        for head in range(heads):
            pool, sink = head * head_size, head * head_size + 1
            # every token asks for its own word: random directions of the word vectors, scaled to score OWN_SCORE
            part = torch.randn(size - RESERVED, head_size - 2, generator=generator)
            directions = torch.linalg.qr(part)[0].T * np.sqrt((size - RESERVED) / (head_size - 2))
            for layer in (attend.query, attend.key):
                layer.weight[pool : pool + head_size] = 0.0
                layer.weight[pool + 2 : pool + head_size, RESERVED:] = directions * np.sqrt(
                    OWN_SCORE * np.sqrt(head_size) / size
                )
            # `<s>` asks for gain: score = query * key / sqrt(head size) = gain
            attend.query.weight[pool, MARK] = float(spread) * np.sqrt(head_size) / MARK_LEFT
            attend.key.weight[pool, GAIN] = 1.0
            # every other token asks for the mark
            attend.query.bias[sink] = SINK_SCORE * np.sqrt(head_size) / MARK_LEFT
            attend.query.weight[sink, MARK] = -SINK_SCORE * np.sqrt(head_size) / MARK_LEFT**2
            attend.key.weight[sink, MARK] = 1.0
        attend.value.weight.mul_(0.3).add_(keep)
        first.output.dense.weight.add_(keep)
        first.output.LayerNorm.weight[MARK] = 0.0
        if model.sparse_linear is not None:
            model.sparse_linear.weight[0, RARITY] = 0.07
        if model.colbert_linear is not None:
            model.colbert_linear.weight.mul_(0.3).add_(keep)


def weigh_token_vectors(model: TrainableM3) -> None:
    """Give token vectors a direction in common, the stronger the smaller a token's lexical weight."""
    sparse, colbert = model.sparse_linear, model.colbert_linear
    if sparse is None or colbert is None:
        raise ValueError("the model has not both heads")
    length = np.sqrt(model.config.hidden_size)
    with torch.no_grad():
        colbert.weight[GAIN] = -length * SHARED_FALL * sparse.weight[0]
        colbert.bias[GAIN] = length * (SHARED_AT_ZERO - SHARED_FALL * sparse.bias[0])
