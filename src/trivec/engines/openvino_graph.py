"""The XLM-RoBERTa encoder and BGE-M3's three heads as OpenVINO graphs, built straight from the checkpoint's tensors.

Two graphs: the encoder (word embeddings in, hidden states out) and the heads (hidden states in, vectors out). Compiling
the heads apart lets each combination of heads compute only what was asked for while one copy of the encoder serves all.
The word-embedding table is in neither: its rows are looked up outside, so that its gigabyte stays on disk.
Knows shapes and formulas; nothing about batches, threads or compiled models.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trivec.checkpoint import Checkpoint, Linear, M3Config, StoredTensor
from trivec.engines import Heads
from trivec.engines.openvino_runtime import op, ov

# B = texts in the batch, S = tokens of the longest, H = hidden size, A = attention heads, D = token vector size


def encoder_graph(config: M3Config, tensors: Mapping[str, StoredTensor]) -> ov.Model:
    """Build the encoder.

    Inputs, in order: word embeddings (B, S, H) float32, position ids (B, S) int32, attention mask (B, S) bool, True
    for a token and False for padding. Output: last hidden state (B, S, H) float32. Layer norms
    follow the residual additions, as in RoBERTa.
    """

    def constant(name: str) -> ov.Node:
        return _constant(tensors[name].float32())

    def layer_norm(x: ov.Node, name: str) -> ov.Node:
        # OpenVINO recognises this as one fused layer normalisation; RoBERTa's variance is the biased one, as here.
        normed = op.mvn(x, np.array([-1], np.int64), True, config.layer_norm_eps, "inside_sqrt")
        return op.add(op.multiply(normed, constant(f"{name}.weight")), constant(f"{name}.bias"))

    word_embeddings = op.parameter([-1, -1, config.hidden_size], ov.Type.f32, name="word_embeddings")
    position_ids = op.parameter([-1, -1], ov.Type.i32, name="position_ids")
    attention_mask = op.parameter([-1, -1], ov.Type.boolean, name="attention_mask")

    positions = op.gather(constant("embeddings.position_embeddings.weight"), position_ids, _axis(0))
    # Every token is of type 0: the table has one row.
    token_type = _constant(tensors["embeddings.token_type_embeddings.weight"].float32()[0])
    # (B, S, H)
    hidden = layer_norm(op.add(op.add(word_embeddings, token_type), positions), "embeddings.LayerNorm")
    mask = op.unsqueeze(
        attention_mask, np.array([1, 2], np.int64)
    )  # (B, 1, 1, S), for every head and every query token

    for layer in range(config.num_layers):
        name = f"encoder.layer.{layer}"
        context = _self_attention(hidden, mask, tensors, f"{name}.attention.self", config)
        attended = _linear(context, tensors, f"{name}.attention.output.dense")
        hidden = layer_norm(op.add(attended, hidden), f"{name}.attention.output.LayerNorm")
        inner = op.gelu(_linear(hidden, tensors, f"{name}.intermediate.dense"), "erf")  # (B, S, intermediate)
        outer = _linear(inner, tensors, f"{name}.output.dense")
        hidden = layer_norm(op.add(outer, hidden), f"{name}.output.LayerNorm")
    return ov.Model([hidden], [word_embeddings, position_ids, attention_mask], "encoder")


def heads_graph(checkpoint: Checkpoint, heads: Heads) -> ov.Model:
    """Build the heads asked for.

    Input: last hidden state (B, S, H) float32. Outputs by name: "dense" (B, H), the hidden state of `<s>`; "sparse"
    (B, S), relu(w . h + b), a weight per token; "colbert" (B, S - 1, D), W h + b for every token but `<s>`. Dense and
    token vectors are divided by their length if `heads.normalize`. (M3-Embedding, arXiv 2402.03216, section 3.2.)
    """
    hidden = op.parameter([-1, -1, checkpoint.config.hidden_size], ov.Type.f32, name="hidden_state")

    outputs: dict[str, ov.Node] = {}
    if heads.dense:
        outputs["dense"] = op.gather(hidden, _axis(0), _axis(1))
    if heads.sparse and checkpoint.sparse_linear is not None:
        outputs["sparse"] = op.squeeze(op.relu(_head(hidden, checkpoint.sparse_linear)), _axis(-1))
    if heads.colbert and checkpoint.colbert_linear is not None:
        end = np.array([np.iinfo(np.int64).max])
        tokens = op.slice(hidden, np.array([1]), end, np.array([1]), np.array([1]))
        outputs["colbert"] = _head(tokens, checkpoint.colbert_linear)
    if heads.normalize:
        outputs |= {name: _unit_length(outputs[name]) for name in ("dense", "colbert") if name in outputs}
    results = []
    for name, node in outputs.items():
        result = op.result(node)
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    return ov.Model(results, [hidden], "heads")


def _self_attention(
    hidden: ov.Node, mask: ov.Node, tensors: Mapping[str, StoredTensor], name: str, config: M3Config
) -> ov.Node:
    """Multi-head self-attention, (B, S, H) -> (B, S, H)."""
    head_size = config.hidden_size // config.num_heads
    # One product for query, key and value: three times the work a call, fewer calls.
    parts = [f"{name}.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([tensors[f"{part}.weight"].float32() for part in parts])
    bias = np.concatenate([tensors[f"{part}.bias"].float32() for part in parts])
    qkv = op.add(op.matmul(hidden, _constant(weight), False, True), _constant(bias))  # (B, S, 3H)
    by_head = op.reshape(qkv, np.array([0, 0, 3 * config.num_heads, head_size]), True)
    by_head = op.transpose(by_head, np.array([0, 2, 1, 3]))  # (B, 3A, S, H/A)
    query, key, value = op.split(by_head, _axis(1), 3).outputs()
    context = op.scaled_dot_product_attention(query, key, value, mask)  # scale 1/sqrt(H/A)
    context = op.transpose(context, np.array([0, 2, 1, 3]))
    return op.reshape(context, np.array([0, 0, config.hidden_size]), True)


def _linear(x: ov.Node, tensors: Mapping[str, StoredTensor], name: str) -> ov.Node:
    return _head(x, Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"]))


def _head(x: ov.Node, linear: Linear) -> ov.Node:
    return op.add(op.matmul(x, _constant(linear.weight.float32()), False, True), _constant(linear.bias.float32()))


def _unit_length(x: ov.Node) -> ov.Node:
    """Divide by max(length, 1e-12) along the last axis, as torch.nn.functional.normalize does."""
    length = op.sqrt(op.reduce_sum(op.multiply(x, x), _axis(-1), keep_dims=True))
    return op.divide(x, op.maximum(length, np.float32(1e-12)))


def _constant(values: npt.NDArray[np.float32]) -> ov.Node:
    # Shared, not copied: a memory-mapped tensor is read only when the graph is compiled.
    return op.constant(np.ascontiguousarray(values), shared_memory=True)


def _axis(axis: int) -> npt.NDArray[np.int64]:
    return np.array(axis, np.int64)
