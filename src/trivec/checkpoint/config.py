"""The part of a model's `config.json` that trivec computes with. Knows nothing about weights or tokens."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivec.checkpoint.model_files import is_there, read_json_object
from trivec.errors import CheckpointError
from trivec.support.arguments import checked_weights

# Beyond any size, position or id of a model.
_MOST = 10**9


@dataclass(frozen=True)
class M3Config:
    """Shape of an XLM-RoBERTa encoder, under Hugging Face's names in shorter form.

    Attributes:
        vocab_size: Rows of the word-embedding table (250,002 for BGE-M3).
        hidden_size: Width of a hidden state and of the dense vector (1024).
        num_layers: Transformer layers (24).
        num_heads: Attention heads per layer (16).
        intermediate_size: Width of the feed-forward layer (4096).
        max_position_embeddings: Rows of the position table (8194); the first `pad_token_id + 1` are never used.
        type_vocab_size: Rows of the token-type table (1).
        pad_token_id: Id of `<pad>` (1), from which positions are counted.
        layer_norm_eps: Added to the variance in every layer normalisation (1e-5).
        fusion_weights: Weights of dense, sparse and token-vector score in their sum, if the model brings its own (under
            "trivec": {"fusion_weights": [...]}); BAAI/bge-m3 does not.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    pad_token_id: int
    layer_norm_eps: float
    fusion_weights: tuple[float, float, float] | None = None

    @property
    def max_length(self) -> int:
        """Most tokens of one text, `<s>` and `</s>` included (8192 for BGE-M3)."""
        return self.max_position_embeddings - self.pad_token_id - 1

    def hugging_face(self, torch_dtype: str = "float32") -> dict[str, Any]:
        """Return this shape as the `config.json` that transformers and FlagEmbedding load."""
        return {
            "architectures": ["XLMRobertaModel"],
            "attention_probs_dropout_prob": 0.1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "xlm-roberta",
            "num_attention_heads": self.num_heads,
            "num_hidden_layers": self.num_layers,
            "pad_token_id": self.pad_token_id,
            "position_embedding_type": "absolute",
            "torch_dtype": torch_dtype,
            "type_vocab_size": self.type_vocab_size,
            "vocab_size": self.vocab_size,
        }

    @classmethod
    def read(cls, path: Path) -> M3Config:
        """Read a `config.json`.

        Raises:
            CheckpointError: The file is missing, no JSON object, lacks a value, or describes another architecture.
        """
        if not is_there(path):
            raise CheckpointError(
                f"{path} is missing: {path.parent} is no model folder (expected config.json, tokenizer.json and "
                "weights)"
            )
        values = read_json_object(path)
        model_type = values.get("model_type")
        if model_type != "xlm-roberta":
            raise CheckpointError(
                f"{path} describes a model of type {reprlib.repr(model_type)}; trivec runs 'xlm-roberta' checkpoints, "
                "which BGE-M3 and its fine-tunes are"
            )
        for name, wanted in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if values.get(name, wanted) != wanted:
                raise CheckpointError(
                    f"{path} has {name} = {reprlib.repr(values[name])}; BGE-M3 and trivec use {wanted!r}"
                )
        whole = _WholeNumbers(path, values)
        config = cls(
            vocab_size=whole("vocab_size", least=4),
            hidden_size=whole("hidden_size", least=1),
            num_layers=whole("num_hidden_layers", least=1),
            num_heads=whole("num_attention_heads", least=1),
            intermediate_size=whole("intermediate_size", least=1),
            max_position_embeddings=whole("max_position_embeddings", least=1),
            type_vocab_size=whole("type_vocab_size", least=1, default=1),
            pad_token_id=whole("pad_token_id", least=0, default=1),
            layer_norm_eps=_layer_norm_eps(path, values),
            fusion_weights=_fusion_weights(path, values),
        )
        if config.max_length < 2:
            raise CheckpointError(
                f"{path}: max_position_embeddings {config.max_position_embeddings} leaves no position for a text "
                f"beyond pad_token_id {config.pad_token_id}: download it again"
            )
        if config.hidden_size % config.num_heads:
            raise CheckpointError(
                f"{path}: hidden_size {config.hidden_size} is not a multiple of num_attention_heads {config.num_heads}"
            )
        return config


@dataclass(frozen=True)
class _WholeNumbers:
    """Takes whole numbers out of a config, and nothing that only looks like one: 2.7, true and "7" are damage."""

    path: Path
    values: dict[str, Any]

    def __call__(self, name: str, *, least: int, default: int | None = None) -> int:
        if name not in self.values and default is not None:
            return default
        if name not in self.values:
            raise CheckpointError(f"{self.path} lacks {name!r}: it is no complete XLM-RoBERTa config")
        value = self.values[name]
        if type(value) is not int or not least <= value <= _MOST:
            raise _bad_value(self.path, name, value, f"a whole number from {least} to {_MOST:,}")
        return value


def _layer_norm_eps(path: Path, values: dict[str, Any]) -> float:
    value = values.get("layer_norm_eps", 1e-5)
    # Zero divides by zero where all values are equal; what comes near the variance itself is a damaged exponent.
    if type(value) not in (int, float) or not 1e-12 <= value <= 1e-2:
        raise _bad_value(path, "layer_norm_eps", value, "a number from 1e-12 to 0.01 (BGE-M3: 1e-05)")
    return float(value)


def _fusion_weights(path: Path, values: dict[str, Any]) -> tuple[float, float, float] | None:
    own = values.get("trivec")
    stored = own.get("fusion_weights") if isinstance(own, dict) else own
    if stored is None:
        return None
    try:
        dense, sparse, colbert = checked_weights(stored)
    except ValueError:
        expected = 'an object like {"fusion_weights": [1, 0.3, 1]}: three numbers of at least 0, not all 0'
        raise _bad_value(path, "trivec", own, expected) from None
    return dense, sparse, colbert


def _bad_value(path: Path, name: str, value: object, expected: str) -> CheckpointError:
    return CheckpointError(f"{path} has {name} = {reprlib.repr(value)}, expected {expected}: download it again")
