"""Converts a checkpoint into the graphs that the peers without torch run, a step a call, in the "onnx" environment.

The plain export is what the published ONNX ports start from; the rest are the peers' own tools applied to it:
`onnxruntime.transformers.optimizer` (fused attention), `quantize_dynamic`, and bge-m3-lite's `fuse` and `quantize`.
Needs room for the weights about three times over in memory at the full size, and on disk.

    .venv-onnx/bin/python benchmarks/conversion.py STEP CHECKPOINT FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NEEDS = {"export": (), "fused": ("export",), "int8": ("fused",), "lite": ("export",), "lite-int8": ("lite",)}
OPSET = 14


def export(checkpoint: Path, folder: Path) -> None:
    """Export with torch: encoder and heads, weights in one file beside the graph."""
    import onnx
    import torch
    from safetensors.torch import load_file
    from transformers import XLMRobertaConfig, XLMRobertaModel

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Eager attention: the form that onnxruntime's fusion knows.
            settings = XLMRobertaConfig.from_pretrained(checkpoint, attn_implementation="eager")
            self.model = XLMRobertaModel(settings, add_pooling_layer=False).eval()
            self.model.load_state_dict(load_file(checkpoint / "model.safetensors"), assign=True)
            self.sparse = torch.nn.Linear(self.model.config.hidden_size, 1)
            self.sparse.load_state_dict(torch.load(checkpoint / "sparse_linear.pt", weights_only=True))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
            dense = torch.nn.functional.normalize(hidden[:, 0], dim=-1)
            return hidden, dense, torch.relu(self.sparse(hidden)).squeeze(-1)

    pieces = folder / "pieces"
    pieces.mkdir(exist_ok=True)
    ids = torch.tensor([[0, 9, 8, 2], [0, 7, 2, 1]])
    outputs = ["token_embeddings", "dense_vecs", "token_weights"]
    axes = {name: {0: "batch", 1: "tokens"} for name in ("input_ids", "attention_mask", outputs[0], outputs[2])}
    torch.onnx.export(
        Encoder(),
        (ids, (ids != 1).long()),
        str(pieces / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=outputs,
        dynamic_axes=axes | {"dense_vecs": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(str(pieces / "model.onnx"))
    data = folder / "model.onnx_data"
    data.unlink(missing_ok=True)
    onnx.save_model(
        model, str(folder / "model.onnx"), save_as_external_data=True, location=data.name, size_threshold=1024
    )
    for file in pieces.iterdir():
        file.unlink()
    pieces.rmdir()


def fused(checkpoint: Path, folder: Path) -> None:
    """Fuse with onnxruntime:  attention, layer norms and activations."""
    from onnxruntime.transformers import optimizer

    config = _config(checkpoint)
    sizes = {"num_heads": config["num_attention_heads"], "hidden_size": config["hidden_size"]}
    model = optimizer.optimize_model(str(folder / "model.onnx"), model_type="bert", opt_level=0, **sizes)
    count = model.get_fused_operator_statistics().get("Attention", 0)
    if count != config["num_hidden_layers"]:
        raise RuntimeError(f"attention was fused in {count} of {config['num_hidden_layers']} layers")
    (folder / "fused.onnx.data").unlink(missing_ok=True)
    model.save_model_to_file(str(folder / "fused.onnx"), use_external_data_format=True)


def int8(checkpoint: Path, folder: Path) -> None:
    """Quantize the fused graph with onnxruntime: int8 weights by column, activations at run time."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    (folder / "int8.onnx.data").unlink(missing_ok=True)
    quantize_dynamic(
        folder / "fused.onnx",
        folder / "int8.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def lite(checkpoint: Path, folder: Path) -> None:
    """Make bge-m3-lite's fused float32 graph, its tokenizer file, and links to the heads."""
    from bge_m3_lite import fuse

    import sentencepiece_file

    config = _config(checkpoint)
    sentencepiece_file.write(checkpoint / "tokenizer.json", folder / "sentencepiece.bpe.model")
    for name in ("sparse_linear.pt", "colbert_linear.pt"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((checkpoint / name).resolve())
    fuse.NUM_HEADS, fuse.HIDDEN_SIZE = config["num_attention_heads"], config["hidden_size"]
    fuse.fuse(folder / "model.onnx")


def lite_int8(checkpoint: Path, folder: Path) -> None:
    """Make its int8 graph (SmoothQuant, activations by row), calibrated on the sample texts."""
    from bge_m3_lite import fuse
    from bge_m3_lite.quantize import quantize

    sys.path.append(str(Path(__file__).parents[1] / "tools"))
    from sample_texts import SENTENCES

    config = _config(checkpoint)
    fuse.NUM_HEADS, fuse.HIDDEN_SIZE = config["num_attention_heads"], config["hidden_size"]
    texts = [text for of_language in SENTENCES.values() for text in of_language]
    quantize(folder / "model_fused.onnx", folder / "model_int8.onnx", calibration_texts=texts)


def _config(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "config.json").read_text())


STEPS = {"export": export, "fused": fused, "int8": int8, "lite": lite, "lite-int8": lite_int8}

if __name__ == "__main__":
    STEPS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
