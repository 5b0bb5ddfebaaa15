"""Code of a user, for a type checker only: what encoding gives is there where it was asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

from trivec import AsyncM3Model, BGEM3EmbeddingFunction, M3Embedding, M3Embeddings, M3Model, M3Reranker, RerankResult
from trivec.vectors.sparse import SparseMatrix

Vectors = npt.NDArray[np.float32]


def encode(model: M3Model, texts: list[str], flag: bool) -> None:
    assert_type(model.encode(texts).dense, Vectors)
    assert_type(model.encode(texts).sparse, SparseMatrix)
    assert_type(model.encode(texts).colbert_vecs, None)
    assert_type(model.encode(texts, max_batch_tokens=4, max_length=None, return_dense=True)[0].dense, Vectors)
    assert_type(model.encode(texts, return_colbert_vecs=True).colbert_vecs, list[Vectors])
    assert_type(model.encode(texts, return_colbert_vecs=True)[0].colbert_vecs, Vectors)
    assert_type(model.encode(texts, return_dense=False).dense, None)
    assert_type(model.encode(texts, return_dense=False)[0].sparse, SparseMatrix)
    assert_type(model.encode(texts, return_sparse=False).sparse, None)
    assert_type(model.encode(texts, return_dense=flag).dense, Vectors | None)
    only_tokens = model.encode(texts, return_dense=False, return_sparse=False, return_colbert_vecs=True)
    assert_type(only_tokens, M3Embeddings[None, None, list[Vectors]])
    assert_type([embedding.colbert_vecs for embedding in only_tokens], list[Vectors])
    for embedding in model.encode_stream(texts):
        assert_type(embedding, M3Embedding[Vectors, SparseMatrix, None])
        assert_type(embedding.sparse, SparseMatrix)
    either: M3Embeddings = model.encode(texts, return_dense=flag, return_sparse=flag, return_colbert_vecs=flag)
    assert_type(either.dense, Vectors | None)


async def awaited(model: AsyncM3Model, texts: list[str]) -> None:
    assert_type((await model.encode(texts)).dense, Vectors)
    assert_type((await model.encode(texts, return_colbert_vecs=True)).colbert_vecs, list[Vectors])
    assert_type((await model.encode(texts, return_dense=False)).dense, None)
    async for embedding in model.encode_stream(texts):
        assert_type(embedding.dense, Vectors | None)


def as_milvus_has_it(function: BGEM3EmbeddingFunction, texts: list[str]) -> None:
    vectors = function.encode_documents(texts)
    assert_type(vectors["dense"], list[Vectors])
    assert_type(vectors["sparse"], SparseMatrix)
    assert_type(vectors["colbert_vecs"], list[Vectors])


def of_pairs(reranker: M3Reranker, texts: list[str]) -> None:
    assert_type(reranker.compute_score([(texts[0], text) for text in texts]), list[float])
    assert_type(reranker.compute_score((texts[0], texts[1]), normalize=True), float)
    assert_type(reranker.rank(texts[0], texts, 3), list[RerankResult])
