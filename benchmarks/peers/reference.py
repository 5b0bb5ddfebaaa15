"""pymilvus-model over FlagEmbedding in torch float32, its only mode on a CPU, as Milvus' documentation uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peers import Loaded

IMPORTS = ("pymilvus.model.hybrid", "FlagEmbedding")
PACKAGES = ("pymilvus.model", "FlagEmbedding", "torch", "transformers", "numpy")


def load(settings: dict[str, Any]) -> Loaded:
    import torch
    from pymilvus.model.hybrid import BGEM3EmbeddingFunction

    torch.set_num_threads(settings["threads"])
    # Without the two lengths it would read 512 tokens of a text and win by leaving work out.
    lengths = {"query_max_length": settings["max_length"], "passage_max_length": settings["max_length"]}
    function = BGEM3EmbeddingFunction(settings["checkpoint"], device="cpu", use_fp16=False, **lengths)

    def encode(texts: Sequence[str]) -> Any:
        return function.encode_documents(list(texts))["dense"]

    return Loaded(encode, "fp32")
