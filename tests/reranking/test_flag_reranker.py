"""`FlagReranker` and `BGERerankFunction`: usage as FlagEmbedding and Milvus document it, with the import changed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from sample_texts import SENTENCES
from trivec import BGERerankFunction, FlagReranker, M3Reranker
from trivec.encoding import TruncationWarning

TEXTS = [text for texts in SENTENCES.values() for text in texts]
PANDA = "The giant panda (Ailuropoda melanoleuca) is a bear species endemic to China."


@pytest.fixture(scope="module")
def flag(tiny_reranker_checkpoint: Path) -> FlagReranker:
    return FlagReranker(str(tiny_reranker_checkpoint), use_fp16=False)


def test_parameters_are_flag_embeddings() -> None:
    parameters = inspect.signature(FlagReranker).parameters
    assert {name: p.default for name, p in parameters.items() if name not in ("kwargs", "model_name_or_path")} == {
        "use_fp16": False,
        "query_instruction_for_rerank": None,
        "query_instruction_format": "{}{}",
        "passage_instruction_for_rerank": None,
        "passage_instruction_format": "{}{}",
        "trust_remote_code": False,
        "cache_dir": None,
        "devices": None,
        "batch_size": 128,
        "query_max_length": None,
        "max_length": 512,
        "normalize": False,
    }


def test_scores(flag: FlagReranker, tiny_reranker: M3Reranker) -> None:
    score = flag.compute_score(["query", "passage"])
    assert score == pytest.approx([tiny_reranker.compute_score(("query", "passage"))], abs=1e-6)
    scores = flag.compute_score([["what is panda?", "hi"], ["what is panda?", PANDA]])
    assert scores == pytest.approx(
        tiny_reranker.compute_score([("what is panda?", "hi"), ("what is panda?", PANDA)]), abs=1e-6
    )
    between = flag.compute_score([["what is panda?", "hi"], ["what is panda?", PANDA]], normalize=True)
    assert all(0 < one < 1 for one in between)
    assert flag.compute_score([]) == []
    flag.stop_self_pool()


def test_queries_are_cut_to_three_quarters(flag: FlagReranker, tiny_reranker: M3Reranker) -> None:
    pair = (" ".join(TEXTS), " ".join(TEXTS))
    with pytest.warns(TruncationWarning, match="1 of 1 pairs had more than max_length=64"):
        found = flag.compute_score(pair, max_length=64)
    with pytest.warns(TruncationWarning):
        wanted = tiny_reranker.compute_score(pair, max_length=64, query_max_length=48)
    assert found == pytest.approx([wanted], abs=1e-6)
    with pytest.warns(TruncationWarning, match="max_length=512"):
        flag.compute_score(pair)


def test_instructions(tiny_reranker_checkpoint: Path, tiny_reranker: M3Reranker) -> None:
    flag = FlagReranker(
        tiny_reranker_checkpoint,
        query_instruction_for_rerank="Question",
        query_instruction_format="{}:\\n{}",
        passage_instruction_for_rerank="Answer: ",
        devices="cpu",
        batch_size=1,
    )
    wanted = tiny_reranker.compute_score(("Question:\na boat", "Answer: a lake"))
    assert flag.compute_score(("a boat", "a lake")) == pytest.approx([wanted], abs=1e-6)


def test_arguments_that_there_are_not(tiny_reranker_checkpoint: Path) -> None:
    with pytest.raises(TypeError, match="unexpected argument 'use_int4'"):
        FlagReranker(tiny_reranker_checkpoint, use_int4=True)
    with pytest.raises(TypeError, match="unexpected argument 'use_int4'"):
        BGERerankFunction(tiny_reranker_checkpoint, use_int4=True)
    with pytest.raises(ValueError, match="max_length=2"):
        FlagReranker(tiny_reranker_checkpoint, max_length=2)
    with pytest.raises(ValueError, match="model_class='decoder-only-base'"):
        BGERerankFunction(tiny_reranker_checkpoint, model_class="decoder-only-base")
    with pytest.raises(ValueError, match="contradict"):
        BGERerankFunction(tiny_reranker_checkpoint, device="cpu", devices="cuda:0")


def test_milvus_example(tiny_reranker_checkpoint: Path, tiny_reranker: M3Reranker) -> None:
    bge_rf = BGERerankFunction(model_name=str(tiny_reranker_checkpoint), device="cpu", model_class="encoder-only-base")
    query = "What event in 1956 marked the official birth of artificial intelligence as a discipline?"
    results = bge_rf(query=query, documents=TEXTS, top_k=3)
    wanted = tiny_reranker.rank(query, TEXTS, 3, normalize=True)
    assert [found.index for found in results] == [found.index for found in wanted]
    assert [found.score for found in results] == pytest.approx([found.score for found in wanted], abs=1e-6)
    assert [found.text for found in results] == [TEXTS[found.index] for found in results]
    assert results[0].to_dict().keys() == {"text", "score", "index"}
    assert len(bge_rf(query, TEXTS)) == 5
    assert len(bge_rf(query, TEXTS, 0)) == len(bge_rf(query, TEXTS, None)) == len(TEXTS)


def test_the_import_path_that_milvus_documents() -> None:
    code = "from pymilvus.model.reranker import BGERerankFunction as f; print(f.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "trivec.reranking.rerank_function", done.stderr
    code = "from pymilvus import model; print(model.reranker.BGERerankFunction.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "trivec.reranking.rerank_function", done.stderr
