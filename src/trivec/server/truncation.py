"""Texts that are longer than the model reads, for clients that say what is to become of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from trivec.checkpoint.tokenizer import M3Tokenizer, TokenizedTexts
from trivec.server import fields
from trivec.server.errors import RequestError

Truncate = Literal["end", "start", "no"]
"""What a text loses that is too long: its end, its start; or it is refused."""


def asked(body: fields.Body) -> Truncate:
    """Read `truncate` and `truncation_direction`, as text-embeddings-inference takes them."""
    direction = fields.choice(body, "truncation_direction", ("Right", "Left", "right", "left"), "right")
    if not fields.flag(body, "truncate", True):
        return "no"
    return "start" if direction in ("Left", "left") else "end"


def tokenized(texts: Sequence[str], tokenizer: M3Tokenizer, max_length: int, truncate: Truncate) -> TokenizedTexts:
    """Tokenize texts; see `Truncate`.

    Raises:
        RequestError: One is too long, and is to be refused then.
    """
    found = tokenizer.encode_batch(texts, max_length)
    if truncate == "end" or not found.cut:
        return found
    if truncate == "no":
        longest = min(found.cut)
        raise RequestError(
            "Validation", f"text {longest} has more than {max_length:,} tokens: shorten it, or let it be truncated"
        )
    token_ids = list(found.token_ids)
    for i in found.cut:
        whole = np.array(tokenizer.encode(texts[i]), dtype=np.int32)
        token_ids[i] = np.concatenate([whole[:1], whole[len(whole) - max_length + 1 :]])
    return TokenizedTexts(token_ids, found.cut)
