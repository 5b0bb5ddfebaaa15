"""The arguments of `M3Model.encode`, checked against what the model has: its heads, and its longest text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from trivec.encoding import EncodingSettings
from trivec.engines import Heads
from trivec.errors import MissingHeadError
from trivec.support.arguments import switch, whole_number

if TYPE_CHECKING:
    from trivec.model.m3_model import M3Model


def settings_of(
    model: M3Model,
    max_batch_tokens: int | None = None,
    max_length: int | None = None,
    return_dense: bool = True,
    return_sparse: bool = True,
    return_colbert_vecs: bool = False,
    normalize: bool = True,
    mcls: int | None = None,
    show_progress: bool = True,
) -> EncodingSettings:
    """Return the arguments of `M3Model.encode`, which has their meaning and errors, checked."""
    if not (return_dense or return_sparse or return_colbert_vecs):
        raise ValueError("nothing to compute: set return_dense, return_sparse or return_colbert_vecs")
    heads = Heads(
        switch("return_dense", return_dense),
        switch("return_sparse", return_sparse),
        switch("return_colbert_vecs", return_colbert_vecs),
        switch("normalize", normalize),
        # Beyond any text's length there is no more <s>, however large the number.
        None if mcls is None else min(whole_number("mcls", mcls), model._length_limit),
    )
    if max_batch_tokens is not None:
        max_batch_tokens = whole_number("max_batch_tokens", max_batch_tokens)
    model.require_heads(sparse=heads.sparse, colbert=heads.colbert)
    show_progress = switch("show_progress", show_progress)
    return EncodingSettings(heads, model.checked_length(max_length), max_batch_tokens, show_progress)


def require_heads(model: M3Model, *, sparse: bool, colbert: bool) -> None:
    """Make sure that a model has the heads asked for.

    Raises:
        MissingHeadError: One is absent; the message names its file.
    """
    for wanted, there, vectors, option in (
        (sparse, model.has_sparse, "sparse", "return_sparse"),
        (colbert, model.has_colbert, "colbert", "return_colbert_vecs"),
    ):
        if wanted and not there:
            raise MissingHeadError(
                f"{model._place} has no {vectors}_linear.pt, so the model gives no {vectors} vectors: "
                f"pass {option}=False, or add the file from the model's repository"
            )


def within_limit(name: str, max_length: int, limit: int) -> int:
    """Return a `max_length`, which the user knows as `name`, if it lies between 2 and the model's limit.

    Raises:
        TypeError: It is no whole number.
        ValueError: It lies elsewhere.
    """
    max_length = whole_number(name, max_length, least=-sys.maxsize)
    if not 2 <= max_length <= limit:
        raise ValueError(f"{name}={max_length} must lie between 2 and the model's limit of {limit} tokens")
    return max_length
