"""The XLM-RoBERTa encoder and the head of token vectors as OpenVINO graphs, built straight from the tensors.

Two graphs: the encoder (word embeddings in, hidden states out), and the head, which is only run when token vectors are
asked for. The word-embedding table is in neither: its rows are looked up outside, so that its gigabyte stays on disk.

Precision is spelled out in the encoder: whatever it is, hidden states, their sums and layer norms are float32; what
lies between (products, attention, GELU) differs. Knows shapes and formulas; nothing about threads or compiled models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Linear, M3Config, StoredTensor
from trivec.engines.encoder_weights import ATTENDED, INNER, OUTER, QKV
from trivec.engines.openvino.runtime import op, ov

# B = texts in the batch, S = tokens of the longest, H = hidden size, A = attention heads, D = token vector size

_F32, _BF16 = ov.Type.f32, ov.Type.bf16


def encoder_graph(config: M3Config, weights: Mapping[str, StoredTensor], *, bf16: bool) -> ov.Model:
    """Build the encoder.

    Inputs, in order, as `encoder_inputs` makes them: word embeddings (B, S, H) float32, position ids (B, S) int32,
    attention mask (B, S) bool. Output: last hidden state (B, S, H) float32. Layer norms follow the residual additions,
    as in RoBERTa.

    Args:
        config: The encoder's shape.
        weights: From `encoder_weights` or `quantized_encoder_weights`. Each product is computed in the type that its
            weights are stored in.
        bf16: Whether to compute attention in bfloat16, and the products whose weights are; in float32 otherwise.
    """
    encoder = _Encoder(config, weights, _BF16 if bf16 else _F32)
    words, position_ids, attention_mask = _parameters(config)
    state = encoder.embeddings(words, position_ids)
    mask = _over_heads(attention_mask)
    for layer in range(config.num_layers):
        state, _ = encoder.layer(state, mask, f"encoder.layer.{layer}.")
    return ov.Model([state.hidden], [words, position_ids, attention_mask], "encoder")


def embeddings_graph(config: M3Config, weights: Mapping[str, StoredTensor]) -> ov.Model:
    """Build what comes before the first layer: word embeddings and position ids in.

    Outputs: hidden state before and after the norm's weight and bias, (B, S, H) each.
    """
    words, position_ids, _ = _parameters(config)
    state = _Encoder(config, weights, _F32).embeddings(words, position_ids)
    return ov.Model([op.result(state.normed), op.result(state.hidden)], [words, position_ids], "embeddings")


def layer_graph(config: M3Config, weights: Mapping[str, StoredTensor]) -> ov.Model:
    """Build one layer by itself, from tensors named as within a layer, with float32 attention.

    Inputs: hidden state before and after the last norm's weight and bias, (B, S, H) each, attention mask (B, S).
    Outputs: the two after the layer, then the inputs of its four products in their order.
    """
    normed, hidden = (op.parameter([-1, -1, config.hidden_size], _F32) for _ in range(2))
    mask = op.parameter([-1, -1], ov.Type.boolean)
    state, inputs = _Encoder(config, weights, _F32).layer(_State(normed, hidden), _over_heads(mask), name="")
    outputs = [op.result(node) for node in (state.normed, state.hidden, *inputs)]
    return ov.Model(outputs, [normed, hidden, mask], "layer")


def encoder_inputs(
    token_ids: Sequence[npt.NDArray[np.int32]], words: StoredTensor, pad_token_id: int
) -> list[npt.NDArray[np.generic]]:
    """Pad a batch of texts and look its word embeddings up.

    Returns:
        Word embeddings (B, S, H) float32; position ids (B, S) int32; attention mask (B, S) bool, True for a token and
        False for padding.
    """
    padded = np.full((len(token_ids), max(map(len, token_ids))), pad_token_id, dtype=np.int32)
    mask = np.zeros(padded.shape, dtype=np.bool_)
    for row, ids in enumerate(token_ids):
        padded[row, : len(ids)] = ids
        mask[row, : len(ids)] = True
    # RoBERTa counts positions over the ids that are not <pad>, even a <pad> spelled out inside a text.
    counted = padded != pad_token_id
    positions = (np.cumsum(counted, axis=1, dtype=np.int32) * counted + pad_token_id).astype(np.int32)
    return [words.rows(padded), positions, mask]


def token_vectors_graph(linear: Linear, *, normalize: bool) -> ov.Model:
    """Build the head of token vectors: last hidden state (B, S, H) in, W h + b for every token out.

    Output: (B, S, D) float32, divided by its length if `normalize`. (M3-Embedding, arXiv 2402.03216, section 3.2.)
    """
    hidden = op.parameter([-1, -1, linear.weight.shape[1]], _F32, name="hidden_state")
    vectors = op.add(op.matmul(hidden, _shared(linear.weight.float32()), False, True), _shared(linear.bias.float32()))
    if normalize:
        length = op.sqrt(op.reduce_sum(op.multiply(vectors, vectors), _axes(-1), keep_dims=True))
        # As torch.nn.functional.normalize does.
        vectors = op.divide(vectors, op.maximum(length, np.float32(1e-12)))
    return ov.Model([vectors], [hidden], "token_vectors")


@dataclass(frozen=True)
class _State:
    """The hidden state (B, S, H), before (`normed`) and after the last norm's weight and bias."""

    normed: ov.Node
    hidden: ov.Node


@dataclass(frozen=True)
class _Encoder:
    """The parts of the encoder as nodes."""

    config: M3Config
    weights: Mapping[str, StoredTensor]
    half_type: ov.Type

    def embeddings(self, words: ov.Node, position_ids: ov.Node) -> _State:
        """Add position and token type to the words: the state before the first layer."""
        positions = op.gather(self._constant("embeddings.position_embeddings.weight"), position_ids, _axis(0))
        # Every token is of type 0: the table has one row.
        token_type = _shared(self.weights["embeddings.token_type_embeddings.weight"].float32()[0])
        return self._layer_norm(op.add(op.add(words, token_type), positions), "embeddings.LayerNorm")

    def layer(self, state: _State, mask: ov.Node, name: str) -> tuple[_State, list[ov.Node]]:
        """One layer: the state after it, and what went into its products."""
        to_qkv = self._product_input(state.normed, state.hidden, name + QKV)
        context = self._attention(self._product(to_qkv, name + QKV), mask)
        attended = self._product(context, name + ATTENDED)
        state = self._layer_norm(op.add(_as(attended, _F32), state.hidden), f"{name}attention.output.LayerNorm")
        to_inner = self._product_input(state.normed, state.hidden, name + INNER)
        inner = op.gelu(self._product(to_inner, name + INNER), "erf")  # (B, S, intermediate)
        to_outer = self._product_input(inner, inner, name + OUTER)
        outer = self._product(to_outer, name + OUTER)
        state = self._layer_norm(op.add(_as(outer, _F32), state.hidden), f"{name}output.LayerNorm")
        return state, [to_qkv, context, to_inner, to_outer]

    def _constant(self, name: str) -> ov.Node:
        return _shared(self.weights[name].float32())

    def _layer_norm(self, x: ov.Node, name: str) -> _State:
        # RoBERTa's variance is the biased one, as here.
        normed = op.mvn(x, _axes(-1), True, self.config.layer_norm_eps, "inside_sqrt")
        hidden = op.add(op.multiply(normed, self._constant(f"{name}.weight")), self._constant(f"{name}.bias"))
        return _State(normed, hidden)

    def _product_input(self, raw: ov.Node, finished: ov.Node, product: str) -> ov.Node:
        """What goes into a product: `finished`, or for int8 `raw` by a weight and bias of the product's own."""
        if f"{product}.input_weight" not in self.weights:
            return finished
        weight, bias = (self._constant(f"{product}.input_{part}") for part in ("weight", "bias"))
        return op.add(op.multiply(raw, weight), bias)

    def _product(self, x: ov.Node, name: str) -> ov.Node:
        """X @ weight.T + bias, in bfloat16 or float32."""
        weight, bias = self.weights[f"{name}.weight"], self._constant(f"{name}.bias")
        if weight.dtype == "I8":
            scale = _shared(self.weights[f"{name}.weight_scale"].float32()[:, None])
            of_steps = op.multiply(op.convert(_shared(weight.data), _F32), scale)
            steps, largest = _quantized(_as(x, _F32))
            return op.add(op.multiply(op.matmul(steps, of_steps, False, True), largest), bias)
        if weight.dtype == "BF16" and self.half_type == _BF16:
            bits = ov.Tensor(weight.data, ov.Shape(list(weight.shape)), _BF16)
            product = op.matmul(_as(x, _BF16), op.constant(bits, shared_memory=True), False, True)
            return op.add(product, _as(bias, _BF16))
        return op.add(op.matmul(_as(x, _F32), _shared(weight.float32()), False, True), bias)

    def _attention(self, qkv: ov.Node, mask: ov.Node) -> ov.Node:
        """Multi-head self-attention, (B, S, 3H) -> (B, S, H)."""
        heads = self.config.num_heads
        by_head = op.reshape(
            _as(qkv, self.half_type), np.array([0, 0, 3 * heads, self.config.hidden_size // heads]), True
        )
        by_head = op.transpose(by_head, np.array([0, 2, 1, 3]))  # (B, 3A, S, H/A)
        query, key, value = op.split(by_head, _axis(1), 3).outputs()
        context = op.scaled_dot_product_attention(query, key, value, mask)  # scale 1/sqrt(H/A)
        context = op.transpose(context, np.array([0, 2, 1, 3]))
        return op.reshape(context, np.array([0, 0, self.config.hidden_size]), True)


def _parameters(config: M3Config) -> list[ov.Node]:
    return [
        op.parameter([-1, -1, config.hidden_size], _F32, name="word_embeddings"),
        op.parameter([-1, -1], ov.Type.i32, name="position_ids"),
        op.parameter([-1, -1], ov.Type.boolean, name="attention_mask"),
    ]


def _over_heads(mask: ov.Node) -> ov.Node:
    """(B, S) -> (B, 1, 1, S), for every head and every query token."""
    return op.unsqueeze(mask, np.array([1, 2], np.int64))


def _quantized(x: ov.Node) -> tuple[ov.Node, ov.Node]:
    """Round each token's channels to 127ths of the largest: (x / largest, rounded, largest (B, S, 1)).

    The fake quantization is OpenVINO's sign to multiply in int8, for which its bounds must be constants; that each
    token has a range of its own is in the factors around it.
    """
    largest = op.maximum(op.reduce_max(op.abs(x), _axes(-1), keep_dims=True), np.float32(1e-10))
    steps = op.multiply(x, op.divide(np.float32(127), largest))
    low, high = np.float32(-128), np.float32(127)
    return op.fake_quantize(steps, low, high, low / high, np.float32(1), 256), largest


def _as(x: ov.Node, element_type: ov.Type) -> ov.Node:
    return x if x.get_element_type() == element_type else op.convert(x, element_type)


def _shared(values: npt.NDArray[np.generic]) -> ov.Node:
    # Shared, not copied: a memory-mapped tensor is read only when the graph is compiled.
    return op.constant(np.ascontiguousarray(values), shared_memory=True)


def _axis(axis: int) -> npt.NDArray[np.int64]:
    return np.array(axis, np.int64)


def _axes(axis: int) -> npt.NDArray[np.int64]:
    return np.array([axis], np.int64)
