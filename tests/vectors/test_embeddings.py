"""Results as people look at them: short to print, clear about what they have, safe to send to another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.vectors.embeddings import EncodedTexts

TEXTS = ["a small boat", "a small boat crossed the lake"]


def test_short_reprs(tiny_model: M3Model, tiny_checkpoint: Path) -> None:
    vectors = tiny_model.encode(TEXTS, return_colbert_vecs=True)
    function = BGEM3EmbeddingFunction(tiny_checkpoint, return_colbert_vecs=True)
    result = function(TEXTS)
    sizes = [len(of_text) for of_text in vectors.colbert_vecs]
    shapes = (
        f"dense 2 x 32, sparse 2 x 1005 ({vectors.sparse.nnz} weights), colbert_vecs 2 x {sizes[0]} to {sizes[1]} x 32"
    )
    assert repr(vectors) == f"<M3Embeddings of 2 texts: {shapes}>"
    assert repr(result) == f"<EncodedTexts of 2 texts: {shapes}>"
    assert repr(vectors[0]) == (
        f"<M3Embedding: dense 32, sparse 1 x 1005 ({vectors.sparse[0].nnz} weights), colbert_vecs {sizes[0]} x 32>"
    )
    assert repr(tiny_model.encode(TEXTS[:1], return_sparse=False)) == "<M3Embeddings of 1 text: dense 1 x 32>"
    assert repr(tiny_model.encode([])) == "<M3Embeddings of 0 texts: dense 0 x 32, sparse 0 x 1005 (0 weights)>"
    assert repr(function) == f"<BGEM3EmbeddingFunction {str(tiny_checkpoint)!r}: dense, sparse, colbert_vecs; fp32>"
    sizes_of_model = "dense 32, sparse 1005, colbert_vecs 32"
    assert repr(function.model) == f"<M3Model {str(tiny_checkpoint)!r}: {sizes_of_model}; fp32, 1024 tokens>"
    function.close()
    assert repr(function.model).endswith("; closed>")
    for shown in (vectors, result, vectors[0], function, function.model, vectors.sparse, function.model.tokenizer):
        assert "\n" not in repr(shown)


def test_wrong_keys_name_the_right_ones(tiny_model: M3Model, tiny_checkpoint: Path) -> None:
    vectors = tiny_model.encode(TEXTS)
    for wrong, right in {
        "dense_vecs": "dense",
        "lexical_weights": "sparse",
        "sparse_vecs": "sparse",
        "dense": "dense",
        "colbert_vecs": "colbert_vecs",
    }.items():
        for of_texts in (vectors, vectors[0]):
            with pytest.raises(KeyError, match=rf"has no '{wrong}': take \.{right}"):
                of_texts[wrong]
    with pytest.raises(KeyError, match=r"has no 'vectors': it has \.dense, \.sparse, \.colbert_vecs"):
        vectors["vectors"]
    with pytest.raises(TypeError, match="not iterable"):
        iter(vectors[0])

    result = BGEM3EmbeddingFunction(tiny_checkpoint)(TEXTS)
    with pytest.raises(KeyError, match="no 'dense_vecs': take 'dense'"):
        result["dense_vecs"]
    with pytest.raises(KeyError, match="give BGEM3EmbeddingFunction return_colbert_vecs=True"):
        result["colbert_vecs"]
    with pytest.raises(KeyError, match="the keys are 'dense', 'sparse'"):
        result["embeddings"]
    assert result.get("colbert_vecs") is None
    assert "colbert_vecs" not in result


def test_results_are_dicts_and_travel(tiny_checkpoint: Path) -> None:
    result = BGEM3EmbeddingFunction(tiny_checkpoint)(TEXTS)
    assert isinstance(result, dict)
    assert list({**result}) == ["dense", "sparse"]
    received = pickle.loads(pickle.dumps(result))
    assert isinstance(received, EncodedTexts)
    assert np.array_equal(received["dense"], result["dense"])
    assert received["sparse"][0].shape == (1, 1005)
    vectors = pickle.loads(pickle.dumps(M3Model.load(tiny_checkpoint, precision="fp32").encode(TEXTS)))
    assert np.array_equal(vectors[1].dense, result["dense"][1])
