"""Plain OpenVINO: the exported ONNX graph, compiled as it is and fed padded batches of 16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peers import Loaded

IMPORTS = ("openvino", "tokenizers")
PACKAGES = ("openvino", "tokenizers", "numpy")


def load(settings: dict[str, Any]) -> Loaded:
    import openvino

    from peers.padded_batches import encoder

    core = openvino.Core()
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": settings["threads"],
        "INFERENCE_PRECISION_HINT": settings["precision"],
    }
    compiled = core.compile_model(core.read_model(Path(settings["converted"]) / "model.onnx"), "CPU", properties)

    def run(ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # A request a call: callers come from several threads.
        outputs = compiled.create_infer_request().infer({"input_ids": ids, "attention_mask": mask})
        return outputs["dense_vecs"], outputs["token_weights"]

    return Loaded(encoder(run, settings), settings["precision"].replace("f32", "fp32"))
