"""Code of a user of everything public, for type checkers only: what is given is what was asked for.

mypy and pyright read it, both strictly; nobody runs it.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

from trivec import (
    AsyncM3Model,
    BGEM3EmbeddingFunction,
    BGEM3FlagModel,
    BGERerankFunction,
    FlagReranker,
    M3Embedding,
    M3Embeddings,
    M3Model,
    M3Reranker,
    RerankResult,
)
from trivec.documents import Document, read_documents
from trivec.encoding import TruncationWarning
from trivec.errors import MilvusError, TrivecError
from trivec.evaluation import EvaluationReport, EvaluationSettings, evaluate, load_datasets
from trivec.milvus import RRF, Added, Hit, Indexed, M3Collection, Weighted, index_documents, list_collections
from trivec.mining import Mined, mine_negatives
from trivec.search.explanation import Explanation
from trivec.shards import Encoder
from trivec.vectors.sparse import SparseMatrix

Vectors = npt.NDArray[np.float32]


def load(folder: Path) -> M3Model:
    assert_type(M3Model.load(), M3Model)
    assert_type(M3Reranker.load(folder, device=["cuda:0", "cuda:1"], precision="fp16"), M3Reranker)
    with M3Model.load("http://localhost:8080", api_key="key") as served, M3Reranker.load(folder) as reranker:
        assert_type(served, M3Model)
        assert_type(reranker, M3Reranker)
    return M3Model.load(folder, precision="fp32", max_length=512, num_threads=2, use_cache=False)


def facts(model: M3Model, reranker: M3Reranker) -> None:
    assert_type(model.dim, dict[str, int])
    assert_type((model.name, model.precision, model.fingerprint), tuple[str, str, str])
    assert_type((model.max_length, model.config.max_length), tuple[int, int])
    assert_type((model.closed, model.has_sparse, model.has_colbert), tuple[bool, bool, bool])
    assert_type(model.fusion_weights, tuple[float, float, float])
    assert_type((reranker.name, reranker.fingerprint, reranker.max_length), tuple[str, str, int])


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


def score(model: M3Model, texts: list[str]) -> Explanation:
    one, other = model.encode(texts[:2], return_colbert_vecs=True)
    assert_type(model.dense_score(one.dense, other.dense), float)
    assert_type(model.lexical_score(one.sparse, other.sparse), float)
    assert_type(model.colbert_score(one.colbert_vecs, other.colbert_vecs), float)
    assert_type(model.token_weights(texts[0]), list[tuple[str, float]])
    assert_type(model.compute_score((texts[0], texts[1]), [1, 0.5, 1]), dict[str, Any])
    assert_type(model.compute_score([(texts[0], text) for text in texts]), dict[str, Any])
    found = model.explain(texts[0], texts[1])
    assert_type(found.best(0), list[tuple[int, float]])
    assert_type(found.scores, Mapping[str, float])
    assert_type(found.alignment, Vectors | None)
    return found


async def awaited(model: AsyncM3Model, texts: list[str]) -> None:
    assert_type((await model.encode(texts)).dense, Vectors)
    assert_type((await model.encode(texts, return_colbert_vecs=True)).colbert_vecs, list[Vectors])
    assert_type((await model.encode(texts, return_dense=False)).dense, None)
    assert_type(await model.token_weights(texts[0]), list[tuple[str, float]])
    assert_type(await model.compute_score([(texts[0], texts[1])]), dict[str, Any])
    async for embedding in model.encode_stream(texts):
        assert_type(embedding.dense, Vectors | None)
    async with await AsyncM3Model.load("nano", precision="fp32") as other:
        assert_type(other.model, M3Model)


def as_milvus_has_it(texts: list[str]) -> None:
    function = BGEM3EmbeddingFunction(model_name="BAAI/bge-m3", device="cpu", use_fp16=False, return_colbert_vecs=True)
    assert_type(function.dim, dict[str, int])
    assert_type(function.encode_queries(texts)["dense"], list[Vectors])
    vectors = function.encode_documents(texts)
    assert_type(vectors["dense"], list[Vectors])
    assert_type(vectors["sparse"], SparseMatrix)
    assert_type(vectors["colbert_vecs"], list[Vectors])


def of_pairs(reranker: M3Reranker, texts: list[str]) -> None:
    assert_type(reranker.compute_score([(texts[0], text) for text in texts]), list[float])
    assert_type(reranker.compute_score((texts[0], texts[1]), normalize=True), float)
    assert_type(list(reranker.score_stream((texts[0], text) for text in texts)), list[float])
    best = reranker.rank(texts[0], texts, 3)
    assert_type(best, list[RerankResult])
    assert_type([(each.index, each.score, each.text) for each in best], list[tuple[int, float, str]])


def under_the_names_of_others(texts: list[str]) -> None:
    model = BGEM3FlagModel("BAAI/bge-m3", use_fp16=False, devices="cpu")
    assert_type(model.encode(texts, batch_size=12, return_dense=True, return_colbert_vecs=True), dict[str, Any])
    assert_type(model.encode_queries(texts[0]), dict[str, Any])
    assert_type(model.encode_corpus(texts), dict[str, Any])
    assert_type(FlagReranker("BAAI/bge-reranker-v2-m3").compute_score([texts[0], texts[1]]), list[float])
    assert_type(BGERerankFunction(device="cpu")(texts[0], texts, top_k=3), list[RerankResult])


def in_milvus(model: M3Model, reranker: M3Reranker, folder: Path, texts: list[str]) -> None:
    with M3Collection("notes", model, uri=folder / "milvus.db", token_vectors="int8") as notes:
        assert_type(notes.add(texts), Added)
        assert_type(notes.add([Document("1", texts[0], {"year": 1932}), {"text": texts[1]}]), Added)
        assert_type(index_documents(notes, read_documents([folder]), max_tokens=256, sync=True), Indexed)
        assert_type(notes.count(), int)
        assert_type(notes.get("1"), Document | None)
        assert_type(notes.search(texts[0], filter="year > 1900", limit=3), list[Hit])
        assert_type(notes.search(texts, "dense"), list[list[Hit]])
        fused = notes.search(texts[0], ranker=Weighted(0.4, 0.2)) + notes.search(texts[0], ranker=RRF(k=60))
        again = notes.search(texts[0], mode="all", rerank="cross-encoder", reranker=reranker, matched_words=True)
        for hit in fused + again:
            assert_type((hit.id, hit.text, hit.score), tuple[str, str, float])
            assert_type(hit.metadata, Mapping[str, Any])
            assert_type(hit.cross_encoder_score, float | None)
        notes.delete(["1"])
    assert_type([each.name for each in list_collections(folder / "milvus.db")], list[str])


def measured(model: M3Model, folder: Path) -> EvaluationReport:
    assert_type(mine_negatives(model, folder / "pairs.jsonl", folder / "mined.jsonl", negatives=7), Mined)
    report = evaluate(model, load_datasets(folder), EvaluationSettings(max_length=512), modes=["dense", "all"])
    assert_type(report.macro["all"]["nDCG@10"].mean, float)
    return report


def of_tables(table: Any) -> Any:
    encode = Encoder("BAAI/bge-m3", token_vectors="int8", precision="int8")
    assert_type(encode.model, M3Model)
    return encode(table)


def caught(model: M3Model) -> str:
    try:
        model.encode([""])
    except MilvusError:
        return "Milvus"
    except (TrivecError, TruncationWarning) as error:
        return str(error)
    return ""
