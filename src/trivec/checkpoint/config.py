"""The part of a model's `config.json` that trivec computes with. Knows nothing about weights or tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivec.errors import CheckpointError


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

    @property
    def max_length(self) -> int:
        """Most tokens of one text, `<s>` and `</s>` included (8192 for BGE-M3)."""
        return self.max_position_embeddings - self.pad_token_id - 1

    @classmethod
    def read(cls, path: Path) -> M3Config:
        """Read a `config.json`.

        Raises:
            CheckpointError: The file is missing, no JSON object, lacks a value, or describes another architecture.
        """
        values = _read_json_object(path)
        model_type = values.get("model_type")
        if model_type != "xlm-roberta":
            raise CheckpointError(
                f"{path} describes a model of type {model_type!r}; trivec runs 'xlm-roberta' checkpoints, "
                "which BGE-M3 and its fine-tunes are"
            )
        for name, wanted in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if values.get(name, wanted) != wanted:
                raise CheckpointError(f"{path} has {name} = {values[name]!r}; BGE-M3 and trivec use {wanted!r}")
        try:
            config = cls(
                vocab_size=int(values["vocab_size"]),
                hidden_size=int(values["hidden_size"]),
                num_layers=int(values["num_hidden_layers"]),
                num_heads=int(values["num_attention_heads"]),
                intermediate_size=int(values["intermediate_size"]),
                max_position_embeddings=int(values["max_position_embeddings"]),
                type_vocab_size=int(values.get("type_vocab_size", 1)),
                pad_token_id=int(values.get("pad_token_id", 1)),
                layer_norm_eps=float(values.get("layer_norm_eps", 1e-5)),
            )
        except KeyError as error:
            raise CheckpointError(f"{path} lacks {error.args[0]!r}: it is no complete XLM-RoBERTa config") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path} has a value that is no number ({error}): download it again") from error
        if min(config.hidden_size, config.num_layers, config.intermediate_size) < 1 or config.max_length < 2:
            raise CheckpointError(f"{path} describes a model without size ({config}): download it again")
        if config.num_heads < 1 or config.hidden_size % config.num_heads:
            raise CheckpointError(
                f"{path}: hidden_size {config.hidden_size} is not a multiple of num_attention_heads {config.num_heads}"
            )
        return config


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing: {path.parent} is no model folder (expected config.json, tokenizer.json and weights)"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}): download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, expected an object")
    return values
