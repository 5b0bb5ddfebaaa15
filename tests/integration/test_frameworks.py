"""LangChain's embeddings for OpenAI, and LlamaIndex's for text-embeddings-inference."""

from __future__ import annotations

import asyncio
from pathlib import Path

import llama_index.core
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from answers import KEY, assert_same


def test_langchain_openai(url: str, texts: list[str], dense: np.ndarray):
    embeddings = OpenAIEmbeddings(
        model="bge-m3", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False, chunk_size=7
    )
    assert_same(embeddings.embed_documents(texts), dense)
    assert_same([embeddings.embed_query(texts[0])], dense[:1])
    assert_same(asyncio.run(embeddings.aembed_documents(texts[:3])), dense[:3])


def test_langchain_openai_by_default_is_told_what_to_set(url: str, monkeypatch: pytest.MonkeyPatch):
    # The ids it sends are of a vocabulary that tiktoken would download; LlamaIndex brings that file along.
    vocabularies = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(vocabularies))
    embeddings = OpenAIEmbeddings(model="bge-m3", base_url=f"{url}/v1", api_key="none")
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings.embed_documents(["A small boat crossed the quiet lake."])


def test_llama_index(url: str, guarded_url: str, texts: list[str], dense: np.ndarray):
    full = [i for i, text in enumerate(texts) if text == text.strip()]  # it strips what it is given
    embedding = TextEmbeddingsInference(model_name="BAAI/bge-m3", base_url=url)
    assert_same(embedding.get_text_embedding_batch([texts[i] for i in full]), dense[full])
    assert_same([embedding.get_query_embedding(texts[0])], dense[:1])
    assert_same([asyncio.run(embedding.aget_text_embedding(texts[0]))], dense[:1])
    with_slash = TextEmbeddingsInference(model_name="BAAI/bge-m3", base_url=f"{url}/")
    assert_same([with_slash.get_text_embedding(texts[0])], dense[:1])
    with_key = TextEmbeddingsInference(model_name="BAAI/bge-m3", base_url=guarded_url, auth_token=KEY)
    assert_same([with_key.get_text_embedding(texts[0])], dense[:1])
