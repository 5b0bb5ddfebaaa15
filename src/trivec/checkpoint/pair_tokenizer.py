"""Pairs of texts as a cross-encoder reads them: `<s> query </s></s> passage </s>`, cut to a length together.

A text that is in several pairs, such as the one query of many passages, is tokenized once. Knows nothing about batches
or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trivec.checkpoint.tokenizer import M3Tokenizer, TokenIds, TokenizedTexts

# `<s>` and three `</s>`: a pair is at least so long.
SPECIAL_TOKENS = 4


@dataclass(frozen=True)
class TextPair:
    """A query and a passage; their length is in characters.

    Attributes:
        query: The query.
        passage: The passage.
    """

    query: str
    passage: str

    def __len__(self) -> int:
        return len(self.query) + len(self.passage)


class PairTokenizer:
    """Makes token ids of pairs. Thread-safe, as the tokenizer is.

    Args:
        tokenizer: The model's.
        query_max_length: Most tokens of a query that are read, special ones not counted; what it leaves is the
            passage's. None: of a pair that is too long, whichever text is the longer loses its end, until both are
            equally long and then both do. (That is "only_second" and "longest_first" in Hugging Face's words.)
    """

    def __init__(self, tokenizer: M3Tokenizer, query_max_length: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._query_max_length = query_max_length

    def encode_batch(self, texts: Sequence[TextPair], max_length: int) -> TokenizedTexts:
        """Tokenize pairs.

        Args:
            texts: The pairs.
            max_length: Most tokens of a pair, the four special ones included; at least 4.
        """
        room = max_length - SPECIAL_TOKENS
        distinct = list(dict.fromkeys(text for pair in texts for text in (pair.query, pair.passage)))
        # One more than there is room for shows which text is too long.
        tokenized = self._tokenizer.encode_batch(distinct, room + 3)
        start, end = self._tokenizer.encode_batch([""], 2).token_ids[0]
        inside = {text: ids[1:-1] for text, ids in zip(distinct, tokenized.token_ids, strict=True)}
        token_ids: list[TokenIds] = []
        cut: set[int] = set()
        for i, pair in enumerate(texts):
            query, passage = inside[pair.query], inside[pair.passage]
            of_query, of_passage = self._lengths(pair, len(query), len(passage), room)
            if of_query < len(query) or of_passage < len(passage):
                cut.add(i)
            parts = ([start], query[:of_query], [end, end], passage[:of_passage], [end])
            token_ids.append(np.concatenate(parts, dtype=np.int32))
        return TokenizedTexts(token_ids, frozenset(cut))

    def _lengths(self, pair: TextPair, query: int, passage: int, room: int) -> tuple[int, int]:
        """Return how many tokens of query and passage are read, of which `room` and one more are known at most."""
        if self._query_max_length is not None:
            query = min(query, self._query_max_length, room)
            return query, min(passage, room - query)
        if query + passage <= room:
            return query, passage
        half = room // 2
        if min(query, passage) <= half:
            return (query, room - query) if query <= passage else (room - passage, passage)
        if query > room and passage > room and room % 2:  # both are longer than is known: which is the longer?
            query, passage = (len(self._tokenizer.token_spans(text)) for text in (pair.query, pair.passage))
        return (room - half, half) if query > passage else (half, room - half)
