"""Runs the encoder over a few texts, one layer at a time, to see what goes into its products and what rounding costs.

Knows the graph of a layer; nothing about how weights are rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Checkpoint, StoredTensor
from trivec.engines.encoder_weights import PRODUCTS, WORD_EMBEDDINGS, embedding_weights
from trivec.engines.openvino.graph import embeddings_graph, encoder_inputs, layer_graph
from trivec.engines.openvino.runtime import core, ov


class LayerProbe:
    """The exact hidden states of some texts before and after a layer, the first one to begin with."""

    def __init__(
        self, checkpoint: Checkpoint, token_ids: Sequence[npt.NDArray[np.int32]], properties: Mapping[str, Any]
    ) -> None:
        """Look the texts' embeddings up; `properties` are OpenVINO's for the runs to come."""
        self._config = checkpoint.config
        self._properties = {**properties, "INFERENCE_PRECISION_HINT": "f32"}
        words = dict(embedding_weights(checkpoint, halve=False))
        *embedded, self._mask = encoder_inputs(token_ids, words[WORD_EMBEDDINGS], checkpoint.config.pad_token_id)
        self._before: list[npt.NDArray[Any]] = []
        self._after = self._run(embeddings_graph(checkpoint.config, words), embedded)

    def next_layer(self, exact: Mapping[str, StoredTensor]) -> dict[str, npt.NDArray[np.float32]]:
        """Step to the next layer, whose tensors by their names within it are `exact`.

        Returns:
            For each of the layer's products its inputs, (tokens, channels), padding left out.
        """
        self._before = self._after
        outputs = self._run_layer(exact)
        self._after = outputs[:2]
        return {product: values[self._mask] for product, values in zip(PRODUCTS, outputs[2:], strict=True)}

    def error(self, rounded: Mapping[str, StoredTensor]) -> float:
        """How far the hidden state after the layer is off with `rounded` tensors: length of the difference by length.

        Returns:
            Root mean square over all tokens, or over the texts' first ones (those of the dense vectors) if that is
            larger.
        """
        exact = self._after[1]
        off = np.linalg.norm(self._run_layer(rounded)[1] - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        return float(np.sqrt(max(np.mean(off[self._mask] ** 2), np.mean(off[:, 0] ** 2))))

    def _run_layer(self, tensors: Mapping[str, StoredTensor]) -> list[npt.NDArray[Any]]:
        return self._run(layer_graph(self._config, tensors), [*self._before, self._mask])

    def _run(self, graph: ov.Model, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        compiled = core().compile_model(graph, "CPU", self._properties)
        return [values.copy() for values in compiled(list(inputs)).values()]
