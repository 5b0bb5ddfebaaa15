"""Who takes part: the peers by name, with the module that runs each, its environment and its options.

This file is read by the benchmark and by every peer's own process, so it needs nothing but Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


class Peer(NamedTuple):
    """One contestant.

    Attributes:
        module: In this package; has `IMPORTS`, `PACKAGES` and `load(settings)`.
        environment: In `environment.REQUIREMENTS`, or "trivec" for the Python that runs the benchmark.
        options: Handed to `load`.
        roof: The precision whose matrix products bound it, "fp32" or "bf16"; None where none is measured (int8).
        steps: Steps of `conversion` that it needs.
    """

    module: str
    environment: str
    options: dict[str, Any]
    roof: str | None
    steps: tuple[str, ...] = ()


class Loaded(NamedTuple):
    """A peer ready to encode dense and sparse vectors.

    Attributes:
        encode: Texts to their dense vectors, (n, dim); the sparse vectors are computed too, in the form its users get.
        precision: What it computes in.
        stream: Texts to any iterator that encodes as it is read, for peers that can.
    """

    encode: Callable[[Sequence[str]], Any]
    precision: str
    stream: Callable[[Iterable[str]], Iterable[object]] | None = None


PEERS = {
    "trivec-fp32": Peer("ours", "trivec", {"precision": "fp32"}, "fp32"),
    "trivec-auto": Peer("ours", "trivec", {"precision": "auto"}, "bf16"),
    "trivec-int8": Peer("ours", "trivec", {"precision": "int8"}, None),
    "reference": Peer("reference", "reference", {}, "fp32"),
    "torch-bf16": Peer("torch_bf16", "reference", {}, "bf16"),
    "onnxruntime-fp32": Peer("onnx_runtime", "onnx", {"file": "fused.onnx", "precision": "fp32"}, "fp32", ("fused",)),
    "onnxruntime-int8": Peer("onnx_runtime", "onnx", {"file": "int8.onnx", "precision": "int8"}, None, ("int8",)),
    "bge-m3-lite-fp32": Peer("bge_m3_lite", "onnx", {"precision": "fp32"}, "fp32", ("lite",)),
    "bge-m3-lite-int8": Peer("bge_m3_lite", "onnx", {"precision": "int8"}, None, ("lite-int8",)),
    "openvino-fp32": Peer("openvino_padded", "trivec", {"precision": "f32"}, "fp32", ("export",)),
    "openvino-bf16": Peer("openvino_padded", "trivec", {"precision": "bf16"}, "bf16", ("export",)),
}
OURS = tuple(name for name, peer in PEERS.items() if peer.module == "ours")
