"""ONNX Runtime the way the published ONNX ports of BGE-M3 use it: float32 with fused attention, or dynamic int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peers import Loaded

IMPORTS = ("onnxruntime", "tokenizers")
PACKAGES = ("onnxruntime", "tokenizers", "numpy")


def load(settings: dict[str, Any]) -> Loaded:
    import onnxruntime

    from peers.padded_batches import encoder

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    file = Path(settings["converted"]) / settings["file"]
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = {"input_ids": ids, "attention_mask": mask}
        dense, weights = session.run(["dense_vecs", "token_weights"], inputs)
        return dense, weights

    return Loaded(encoder(run, settings), settings["precision"])
