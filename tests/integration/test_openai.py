"""`openai`, sync and async: what it asks for by default (base64), on request, and which errors it raises."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import openai
import pytest

from answers import KEY, TOLERANCE, assert_same
from trivec import M3Model


@pytest.fixture
def client(url: str):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as opened:
        yield opened


def test_dense_vectors_in_order(client: openai.OpenAI, texts: list[str], dense: np.ndarray):
    answer = client.embeddings.create(model="bge-m3", input=texts)
    assert_same([item.embedding for item in answer.data], dense)
    assert [item.index for item in answer.data] == list(range(len(texts)))
    assert answer.object == "list"
    assert {item.object for item in answer.data} == {"embedding"}
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(texts)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_the_encoding_asked_for(client: openai.OpenAI, texts: list[str], dense: np.ndarray, encoding_format: str):
    answer = client.embeddings.create(model="bge-m3", input=texts, encoding_format=encoding_format)
    vectors = [item.embedding for item in answer.data]
    if encoding_format == "base64":
        vectors = [np.frombuffer(base64.b64decode(data), "<f4") for data in vectors]
    assert_same(vectors, dense)


def test_one_text(client: openai.OpenAI, texts: list[str], dense: np.ndarray):
    answer = client.embeddings.create(model="bge-m3", input=texts[0], dimensions=dense.shape[1], user="someone")
    assert_same([item.embedding for item in answer.data], dense[:1])


def test_without_v1_in_the_url(url: str, texts: list[str], dense: np.ndarray):
    with openai.OpenAI(base_url=url, api_key="none") as client:
        answer = client.embeddings.create(model="bge-m3", input=texts[:3])
    assert_same([item.embedding for item in answer.data], dense[:3])


def test_sparse_and_token_vectors_by_extra_body(client: openai.OpenAI, model: M3Model, texts: list[str]):
    some = texts[:5]
    answer = client.embeddings.create(
        model="bge-m3", input=some, encoding_format="float", extra_body={"return": ["sparse", "colbert"]}
    )
    expected = model.encode(some, return_dense=True, return_sparse=True, return_colbert_vecs=True)
    assert_same([item.embedding for item in answer.data], expected.dense)
    for i, item in enumerate(answer.data):
        row = expected.sparse[i]
        order = np.argsort(item.sparse["indices"])
        assert np.array(item.sparse["indices"])[order].tolist() == np.sort(row.indices).tolist()
        assert np.allclose(
            np.array(item.sparse["values"])[order], row.data[np.argsort(row.indices)], rtol=0, atol=TOLERANCE
        )
        assert_same(item.colbert, expected.colbert_vecs[i])


def test_the_model_is_listed(client: openai.OpenAI):
    (listed,) = client.models.list()
    assert listed.id == "nano"
    assert listed.object == "model"


def test_many_requests_at_once(url: str, texts: list[str], dense: np.ndarray):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            return await asyncio.gather(*(client.embeddings.create(model="bge-m3", input=text) for text in texts))

    answers = asyncio.run(ask_all())
    assert_same([answer.data[0].embedding for answer in answers], dense)


def test_token_ids_are_refused(client: openai.OpenAI):
    for ids in ([15339, 1917], [[15339, 1917], [1]]):
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as raised:
            client.embeddings.create(model="bge-m3", input=ids)
        assert raised.value.type == "invalid_request_error"


def test_another_size_is_refused(client: openai.OpenAI, dense: np.ndarray):
    with pytest.raises(openai.BadRequestError, match=rf"\b8\b.*\b{dense.shape[1]}\b"):
        client.embeddings.create(model="bge-m3", input="a", dimensions=8)


def test_no_text_is_refused(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="bge-m3", input=[])
    assert str(raised.value) != "Error code: 400"


def test_a_wrong_key_is_told(guarded_url: str):
    with openai.OpenAI(base_url=f"{guarded_url}/v1", api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="key"):
            client.embeddings.create(model="bge-m3", input="a")
        with pytest.raises(openai.AuthenticationError, match="key"):
            client.models.list()


def test_the_right_key_is_enough(guarded_url: str, texts: list[str], dense: np.ndarray):
    with openai.OpenAI(base_url=f"{guarded_url}/v1", api_key=KEY) as client:
        assert_same([client.embeddings.create(model="bge-m3", input=texts[0]).data[0].embedding], dense[:1])


def test_too_many_texts_are_told(guarded_url: str):
    with (
        openai.OpenAI(base_url=f"{guarded_url}/v1", api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.APIStatusError, match=r"\b5\b.*\b4\b") as raised,
    ):
        client.embeddings.create(model="bge-m3", input=list("abcde"))
    assert 400 <= raised.value.status_code < 500


def test_a_route_that_is_not_there_is_told(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="/v1/responses"):
        client.responses.create(model="bge-m3", input="a")
