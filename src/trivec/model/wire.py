"""Vectors as a server sends them: arrays in base64, so that every bit arrives."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.encoding import EncodingSettings
from trivec.errors import ServerError
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import PairScores
from trivec.vectors.sparse import SparseMatrix

_DTYPES = {"float32": "<f4", "int32": "<i4", "int64": "<i8"}


def body(field: str, elements: Sequence[bytes], others: Mapping[str, Any]) -> bytes:
    """Return a request whose `field` is a list of elements, which are JSON already."""
    return b'{"%s":[%s],%s' % (field.encode(), b",".join(elements), json.dumps(others).encode()[1:])


def encode_fields(settings: EncodingSettings) -> dict[str, Any]:
    """Return the fields of `POST /encode` besides its texts."""
    heads = settings.heads
    wanted = {"dense": heads.dense, "sparse": heads.sparse, "colbert": heads.colbert}
    return {
        "return": [kind for kind, is_wanted in wanted.items() if is_wanted],
        "max_length": settings.max_length,
        "normalize": heads.normalize,
        "mcls": heads.mcls,
        "encoding": "base64",
        "dtype": "float32",
    }


def read_embeddings(answer: Any, texts: int, settings: EncodingSettings, dim: Mapping[str, int]) -> M3Embeddings:
    """Return the vectors that `POST /encode` was answered with.

    Args:
        answer: The answer.
        texts: How many texts were sent.
        settings: What was asked for.
        dim: The model's.

    Raises:
        ServerError: The answer is not what was asked for.
    """
    heads = settings.heads
    try:
        vectors = M3Embeddings(
            dense=_array(answer["dense"]) if heads.dense else None,
            sparse=_sparse(answer["sparse"]) if heads.sparse else None,
            colbert_vecs=[_array(one) for one in answer["colbert"]] if heads.colbert else None,
            cut=frozenset(map(int, answer["usage"]["cut"])),
        )
        _check_sizes(vectors, texts, dim)
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error) as error:
        raise ServerError(
            f"the server's answer is not what was asked for ({type(error).__name__}: {error!s:.100}): "
            "has it another version or model by now? Load the model again"
        ) from None
    return vectors


def read_ranking(answer: Any, documents: int) -> list[float]:
    """Read the scores that `POST /rerank` was answered with, in the order of the documents.

    Args:
        answer: The answer.
        documents: How many were sent.

    Raises:
        ServerError: The answer is not what was asked for.
    """
    try:
        scores = {int(one["index"]): float(one["score"]) for one in answer}
        return [scores[i] for i in range(documents)]
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"the server's ranking is not what was asked for ({type(error).__name__})") from None


def read_scores(answer: Any, pairs: int) -> tuple[PairScores, int]:
    """Return the scores that `POST /score` was answered with, and how many of the texts were cut.

    Raises:
        ServerError: The answer is not what was asked for.
    """
    try:
        of_each = [[float(score) for score in answer[kind]] for kind in ("dense", "sparse", "colbert")]
        if {len(scores) for scores in of_each} != {pairs}:
            raise ValueError(f"not {pairs} scores")
        return PairScores(*of_each), int(answer["usage"]["truncated"])
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"the server's answer is not what was asked for ({error!s:.100})") from None


def _check_sizes(vectors: M3Embeddings, texts: int, dim: Mapping[str, int]) -> None:
    matrices = (("dense", vectors.dense), ("sparse", vectors.sparse))
    got = {kind: matrix.shape for kind, matrix in matrices if matrix is not None}
    wanted: dict[str, Any] = {kind: (texts, dim[kind]) for kind in got}
    if vectors.colbert_vecs is not None:
        got["token vectors"] = (len(vectors.colbert_vecs), *{one.shape[1:] for one in vectors.colbert_vecs})
        wanted["token vectors"] = (texts, *({(dim["colbert_vecs"],)} if texts else ()))
    if got != wanted:
        raise ValueError(f"sizes {got}, expected {wanted}")


def _array(sent: Mapping[str, Any]) -> npt.NDArray[Any]:
    flat = np.frombuffer(binascii.a2b_base64(sent["data"]), _DTYPES[sent["dtype"]])
    return flat.reshape(sent["shape"]).astype(sent["dtype"])  # a copy, which can be written to


def _sparse(sent: Mapping[str, Any]) -> SparseMatrix:
    parts = (_array(sent["values"]), _array(sent["indices"]), _array(sent["indptr"]))
    return SparseMatrix(parts, shape=tuple(sent["shape"]))
