"""Which words of a query a document shares, for people to read: pieces that stand together are joined again.

Knows nothing of stores or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# How a shared piece is shown that is nothing but the mark of a word's beginning.
_WORD_START = "\u2581"

# Token ids with their character offsets (start, end).
Spans = Iterable[tuple[int, tuple[int, int]]]


def shared_weights(query: Mapping[int, float], document: Mapping[int, float]) -> dict[int, float]:
    """Return what each shared token id adds to the sparse score, given both texts' lexical weights by token id."""
    return {token_id: weight * document[token_id] for token_id, weight in query.items() if token_id in document}


def matched_words(query: str, tokens: Spans, shared: Mapping[int, float]) -> list[tuple[str, float]]:
    """Join the query's shared pieces into words.

    Args:
        query: The query's text.
        tokens: Its token ids with their character offsets (start, end), in order, without special tokens. A piece that
            is only the mark of a word's beginning has no characters: start = end.
        shared: As `shared_weights` gives them.

    Returns:
        (word, what its pieces add to the sparse score), best first; they sum to the sparse score, so a piece that
        the query repeats counts where it stands first.
    """
    words: dict[str, float] = {}
    uncounted = dict(shared)
    start = end = 0
    added: float | None = None  # of the run of neighbouring pieces from start to end; None between runs
    for token_id, (begin, stop) in (*tokens, (-1, (len(query), len(query)))):
        if added is not None and (token_id not in shared or begin > end):
            word = query[start:end].strip() or _WORD_START
            words[word] = words.get(word, 0.0) + added
            added = None
        if token_id in shared:
            if added is None:
                start, added = begin, 0.0
            end = stop
            added += uncounted.pop(token_id, 0.0)
    return sorted(words.items(), key=lambda pair: -pair[1])
