"""XLM-RoBERTa's encoder in PyTorch, with the parameter names of Hugging Face's `XLMRobertaModel`.

Only what training needs: token ids and mask in, last hidden state out. No dropout (contrastive batches regularise
enough, and without it a split batch gives the same gradients as a whole one), no pooler, no heads: those are in
`m3.py`. It knows nothing of files or tokenizers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trivec.checkpoint import M3Config

# Up to this length attention is two plain batched products: the bf16 backward pass of
# `scaled_dot_product_attention` on a CPU takes several times as long. Beyond it, memory decides.
PLAIN_ATTENTION_LENGTH = 512


class _SelfAttention(nn.Module):
    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        batch, length, size = hidden.shape
        head_size = size // self.num_heads
        query, key, value = (
            layer(hidden).view(batch, length, self.num_heads, head_size).transpose(1, 2)  # (batch, heads, length, head)
            for layer in (self.query, self.key, self.value)
        )
        if length <= PLAIN_ATTENTION_LENGTH:
            scores = (query / math.sqrt(head_size)) @ key.transpose(-1, -2)  # (batch, heads, length, length)
            context: Tensor = (scores + bias.to(scores.dtype)).softmax(-1) @ value
        else:
            context = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return context.transpose(1, 2).reshape(batch, length, size)


class _AttentionOutput(nn.Module):
    def __init__(self, config: M3Config, inner_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, inner: Tensor, hidden: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dense(inner) + hidden)
        return out


class _Attention(nn.Module):
    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _AttentionOutput(config, config.hidden_size)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = self.output(self.self(hidden, bias), hidden)
        return out


class _Intermediate(nn.Module):
    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.gelu(self.dense(hidden))


class _Layer(nn.Module):
    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _AttentionOutput(config, config.intermediate_size)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        attended = self.attention(hidden, bias)
        out: Tensor = self.output(self.intermediate(attended), attended)
        return out


class _Embeddings(nn.Module):
    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.pad_token_id = config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size, config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        # XLM-R counts positions from pad_token_id + 1, and every padding token has the padding position.
        positions = torch.cumsum(mask, dim=1) * mask + self.pad_token_id
        hidden = (
            self.word_embeddings(token_ids) + self.position_embeddings(positions) + self.token_type_embeddings.weight[0]
        )
        out: Tensor = self.LayerNorm(hidden)
        return out


class _Layers(nn.Module):
    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))


class XLMREncoder(nn.Module):
    """Token ids to last hidden state; its `state_dict` has `XLMRobertaModel`'s names.

    Args:
        config: Sizes of the model.

    Attributes:
        checkpoint_gradients: Recompute each layer in the backward pass instead of keeping its activations
            (about a third more time, memory of one layer instead of all).
    """

    def __init__(self, config: M3Config) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_gradients = False
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)
        self.apply(_initialise)

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Encode a padded batch.

        Args:
            token_ids: (batch, length) int64, padded at the right with `config.pad_token_id`.
            mask: (batch, length) int64, 1 for a token and 0 for padding.

        Returns:
            (batch, length, hidden size) float; rows of padding are not meaningful.
        """
        hidden: Tensor = self.embeddings(token_ids, mask)
        bias = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        bias = bias.masked_fill(mask == 0, torch.finfo(torch.bfloat16).min)[:, None, None, :]
        for layer in self.encoder.layer:
            if self.checkpoint_gradients and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, bias, use_reentrant=False)
            else:
                hidden = layer(hidden, bias)
        return hidden


def _initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal with standard deviation 0.02, zero biases and zero padding row."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
