"""FlagEmbedding's own torch model in bfloat16, which FlagEmbedding itself does not offer on a CPU.

Its `encode` turns the model back to float32 on every call, so the model is taken out and run in plain padded batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peers import Loaded

IMPORTS = ("FlagEmbedding",)
PACKAGES = ("FlagEmbedding", "torch", "transformers", "numpy")


def load(settings: dict[str, Any]) -> Loaded:
    import torch
    from FlagEmbedding import BGEM3FlagModel

    from peers.padded_batches import encoder

    torch.set_num_threads(settings["threads"])
    model = BGEM3FlagModel(settings["checkpoint"], use_fp16=False, devices="cpu").model.bfloat16().eval()

    @torch.inference_mode()
    def run(ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        outputs = model(inputs, return_dense=True, return_sparse=True, return_colbert_vecs=False)
        return outputs["dense_vecs"].float().numpy(), outputs["sparse_vecs"].squeeze(-1).float().numpy()

    return Loaded(encoder(run, settings), "bf16")
