"""The encoder's tensors in the order in which the kernels read them, and the structures that point at them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Linear, M3Config, StoredTensor
from trivec.engines.encoder_weights import ATTENDED, INNER, OUTER, PRODUCT_WEIGHTS, QKV
from trivec.engines.native.library import PANEL, Layer, Model, Norm, Product, padded

_TYPES = {"F32": 0, "BF16": 1, "I8": 2}


def packed_weights(tensors: Iterable[tuple[str, StoredTensor]]) -> Iterator[tuple[str, StoredTensor]]:
    """Hand an encoder's tensors on, the weights of its products in panels (see encoder.h)."""
    for name, tensor in tensors:
        is_product = name.startswith("encoder.layer.") and name.split(".", 3)[3] in PRODUCT_WEIGHTS
        yield name, StoredTensor(in_panels(tensor.data), tensor.dtype) if is_product else tensor


def in_panels(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Reorder weights (outputs, inputs) into panels of 16 outputs, filled up with zeros.

    Returns:
        (panels, inputs, 16), for 8-bit weights (panels, inputs / 2 rounded up, 16, 2).
    """
    outputs, inputs = weight.shape
    group = 2 if weight.dtype == np.int8 else 1
    filled = np.zeros((padded(outputs), -(-inputs // group) * group), weight.dtype)
    filled[:outputs, :inputs] = weight
    panels = filled.reshape(len(filled) // PANEL, PANEL, -1, group).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(panels if group > 1 else panels[..., 0])


class EncoderLayout:
    """The encoder as the kernels know it: `model`, which is valid for as long as this object lives."""

    def __init__(self, config: M3Config, weights: Mapping[str, StoredTensor]) -> None:
        """Point at `weights`, as `packed_weights` gives them."""
        self._weights = weights
        self._held: list[npt.NDArray[np.generic]] = []
        self._layers = (Layer * config.num_layers)()
        hidden, inner = config.hidden_size, config.intermediate_size
        for number in range(config.num_layers):
            name = f"encoder.layer.{number}."
            self._layers[number] = Layer(
                qkv=self._product(name + QKV, 3 * hidden, hidden),
                attended=self._product(name + ATTENDED, hidden, hidden),
                inner=self._product(name + INNER, inner, hidden),
                outer=self._product(name + OUTER, hidden, inner),
                attended_norm=self._norm(f"{name}attention.output.LayerNorm"),
                outer_norm=self._norm(f"{name}output.LayerNorm"),
            )
        self.model = Model(
            layers=config.num_layers,
            hidden=hidden,
            heads=config.num_heads,
            intermediate=inner,
            epsilon=config.layer_norm_eps,
            embedding_norm=self._norm("embeddings.LayerNorm"),
            layer=ctypes.cast(self._layers, ctypes.POINTER(Layer)),
        )

    def _product(self, name: str, outputs: int, inputs: int) -> Product:
        weight = self._weights[f"{name}.weight"]
        self._held.append(weight.data)
        return Product(
            type=_TYPES[weight.dtype],
            outputs=outputs,
            inputs=inputs,
            weight=weight.data.ctypes.data,
            scale=self._row(f"{name}.weight_scale"),
            bias=self._row(f"{name}.bias"),
            input_weight=self._row(f"{name}.input_weight"),
            input_bias=self._row(f"{name}.input_bias"),
        )

    def _norm(self, name: str) -> Norm:
        return Norm(weight=self._row(f"{name}.weight"), bias=self._row(f"{name}.bias"))

    def _row(self, name: str) -> int | None:
        """The address of a row in float32, padded; None if there is no such tensor."""
        if name not in self._weights:
            return None
        self._held.append(padded_row(self._weights[name].float32()))
        return self._held[-1].ctypes.data


class HeadLayout:
    """A linear head as the kernels know it: `product`, which is valid for as long as this object lives."""

    def __init__(self, linear: Linear) -> None:
        """Copy the head's weights into panels."""
        outputs, inputs = linear.weight.shape
        self._weight = in_panels(linear.weight.float32())
        self._bias = padded_row(linear.bias.float32())
        self.product = Product(
            type=_TYPES["F32"],
            outputs=outputs,
            inputs=inputs,
            weight=self._weight.ctypes.data,
            bias=self._bias.ctypes.data,
        )


def padded_row(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Fill a row up with zeros to the length it has in memory."""
    return np.concatenate([values, np.zeros(padded(len(values)) - len(values), np.float32)])
