"""What is refused: every error is JSON in the form that the path's clients read, and says what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from server.conftest import ask
from serving import Served

LONG = "word " * 1100


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        ("/encode", {}, 422, "Validation", "inputs is missing"),
        ("/encode", {"inputs": []}, 400, "Empty", "inputs is empty: give at least one text"),
        ("/encode", {"inputs": ["a", None]}, 422, "Validation", r"inputs\[1\] is None: it must be a text"),
        (
            "/encode",
            {"inputs": {"a": 1}},
            422,
            "Validation",
            "inputs is {'a': 1}: it must be a text",
        ),
        ("/encode", {"inputs": ["a"] * 101}, 422, "Validation", "101 texts are more than the 100 of a request"),
        ("/encode", {"inputs": "a", "return": ["dens"]}, 422, "Validation", "return is .*: it must be a list out of"),
        ("/encode", {"inputs": "a", "return": []}, 422, "Validation", "nothing to compute"),
        ("/encode", {"inputs": "a", "max_length": 1}, 422, "Validation", "max_length is 1"),
        ("/encode", {"inputs": "a", "max_length": 12.5}, 422, "Validation", "max_length is 12.5"),
        ("/encode", {"inputs": "a", "mcls": 2**64 - 2}, 422, "Validation", "mcls is 18446744073709551614"),
        ("/encode", {"inputs": "a", "max_length": 5000}, 422, "Validation", "max_length=5000"),
        (
            "/encode",
            {"inputs": "a", "normalize": "no"},
            422,
            "Validation",
            "it must be true or false",
        ),
        ("/encode", {"inputs": "a", "dtype": "float16", "encoding": "float"}, 422, "Validation", "float16"),
        ("/encode", {"inputs": [LONG] * 70, "return": "colbert"}, 413, "TooLarge", "token vectors of more than 65,536"),
        ("/encode", [1], 422, "Validation", "the body must be a JSON object, got list"),
        ("/encode", b'{"inputs": NaN}', 400, "Malformed", "the body is no JSON"),
        ("/encode", b'{"inputs": "\xff"}', 400, "Malformed", "the body is no JSON"),
        ("/encode", b'{"inputs": "\\ud800"}', 400, "Malformed", "the body is no JSON"),
        ("/encode", b'{"inputs":' + b"[" * 100_000, 400, "Malformed", "the body is no JSON"),
        ("/encode", b"x" * 1_000_001, 413, "TooLarge", "the body is larger than 1,000,000 bytes: send fewer texts"),
        ("/score", {"pairs": []}, 400, "Empty", "pairs is empty"),
        ("/score", {"pairs": [["a"]]}, 422, "Validation", r"pairs\[0\] is \['a'\]: it must be two texts"),
        ("/score", {"pairs": [["a", "b"]], "weights": [0, 0, 0]}, 422, "Validation", "weights must be three numbers"),
        ("/score", {"pairs": [["a", "b"]] * 51}, 422, "Validation", "102 texts are more than the 100"),
        ("/embed", {"inputs": [[1, 2]]}, 422, "Validation", "inputs holds token ids"),
        ("/embed", {"inputs": LONG, "truncate": False}, 422, "Validation", "text 0 has more than 1,024 tokens"),
        ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "one of Right, Left"),
        ("/embed", {"inputs": "a", "dimensions": 8}, 422, "Validation", "dimensions is 8: the vectors of this model"),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, 422, "Validation", "this model has no prompts"),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["a"]}, "parameters": False},
            422,
            "Validation",
            "p",
        ),
        ("/similarity", {"inputs": "a"}, 422, "Validation", "source_sentence"),
        ("/decode", {"ids": [[10_000_000]]}, 422, "Validation", "ids is 10000000"),
        ("/rerank", {"texts": ["a"]}, 422, "Validation", "query is missing"),
        ("/rerank", {"query": "a", "texts": ["a"], "mode": "best"}, 422, "Validation", "mode is 'best'"),
        ("/search", {"query": "a"}, 404, "NotFound", "start it with --uri and --collection"),
        ("/documents/7", None, 404, "NotFound", "start it with --uri and --collection"),
        ("/nowhere", None, 404, "NotFound", "there is no /nowhere"),
        ("/encode", None, 405, "MethodNotAllowed", "/encode takes POST, not GET"),
    ],
)
def test_errors_have_the_form_of_tei(
    server: Served, path: str, body: Any, status: int, kind: str, message: str
) -> None:
    found_status, found, headers = ask(server.url + path, body)
    assert (found_status, headers["content-type"]) == (status, "application/json")
    assert found["error_type"] == kind
    assert re.search(message, found["error"]), found


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        ("/v1/embeddings", {"input": [[1, 2, 3]]}, 400, "invalid_request_error", "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": [1, 2, 3]}, 400, "invalid_request_error", "check_embedding_ctx_length=False"),
        ("/embeddings", {"input": "a", "dimensions": 8}, 400, "invalid_request_error", "dimensions is 8"),
        ("/v1/embeddings", {"input": []}, 400, "invalid_request_error", "input is empty"),
        ("/v1/embeddings", b"{", 400, "invalid_request_error", "the body is no JSON"),
        ("/v1/embeddings", b"x" * 1_000_001, 413, "invalid_request_error", "the body is larger than"),
        ("/v1/embeddings", None, 405, "invalid_request_error", "takes POST, not GET"),
        ("/v1/nowhere", None, 404, "not_found_error", "there is no /v1/nowhere"),
        ("/v2/rerank", {"query": "a"}, 400, "invalid_request_error", "texts is missing"),
        ("/rerank", {"documents": ["a"]}, 400, "invalid_request_error", "query is missing"),
    ],
)
def test_errors_have_the_form_of_openai(
    server: Served, path: str, body: Any, status: int, kind: str, message: str
) -> None:
    found_status, found, headers = ask(server.url + path, body)
    assert (found_status, headers["content-type"]) == (status, "application/json")
    assert found["error"]["type"] == kind
    assert re.search(message, found["error"]["message"])
    assert found["message"] == found["error"]["message"]
    assert set(found["error"]) == {"message", "type", "param", "code"}


def test_who_asks_by_another_method_is_told_which_there_are(server: Served) -> None:
    for path, method, allowed in (("/encode", "PUT", "POST"), ("/health", "DELETE", "GET, HEAD")):
        status, _, headers = ask(server.url + path, method=method)
        assert (status, headers["allow"]) == (405, allowed)


def test_a_refusal_leaves_the_server_as_it_was(server: Served) -> None:
    for body in (b"{", b"x" * 2_000_000, b'{"inputs": 1}'):
        assert ask(f"{server.url}/encode", body)[0] >= 400
    status, found, _ = ask(f"{server.url}/encode", {"inputs": "still there"})
    assert (status, len(found["dense"])) == (200, 1)


def test_what_is_documented_is_json(server: Served) -> None:
    status, found, _ = ask(f"{server.url}/openapi.json")
    assert status == 200
    assert json.dumps(found)
    assert "/encode" in found["paths"]


def test_a_server_without_a_cross_encoder(server: Served) -> None:
    status, found, _ = ask(f"{server.url}/rerank", {"query": "a", "texts": ["b"], "mode": "cross-encoder"})
    assert status == 422
    assert "start it with --reranker" in found["error"]
