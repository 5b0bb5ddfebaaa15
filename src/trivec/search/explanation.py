"""Why a text matches a query: which words the model weighs, and which words answer which. Knows vectors and places.

A word is what people take for one: pieces that stand together, apart from punctuation; in scripts that are written
without spaces, a piece.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

# Beginnings of the Unicode names of letters that are written without spaces between words.
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "IDEOGRAPHIC", "HANGZHOU")


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        start: Where it begins, in characters.
        end: Where it ends.
        weight: The sum of its pieces' lexical weights; 0 where the model has no head for them.
    """

    start: int
    end: int
    weight: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `M3Model.explain` returns.

    Attributes:
        query: The query.
        text: The text.
        query_words: The query's words, as far as they are read.
        text_words: The text's.
        alignment: (query words, text words) float32: the mean, over the tokens of a word of the query, of the largest
            inner product with a token of a word of the text. None where the model has no token vectors.
        scores: By mode; those that the model has heads for.
        truncated: Whether the query or the text is longer than is read.
    """

    query: str
    text: str
    query_words: tuple[Word, ...]
    text_words: tuple[Word, ...]
    alignment: FloatArray | None
    scores: Mapping[str, float]
    truncated: bool

    def best(self, query_word: int, count: int = 3) -> list[tuple[int, float]]:
        """Return the numbers of the text's words that a word of the query is nearest to, with how near, best first.

        Raises:
            ValueError: The model has no token vectors.
        """
        if self.alignment is None:
            raise ValueError("the model has no token vectors, so no word is nearer than another")
        row = self.alignment[query_word]
        return [(int(i), float(row[i])) for i in np.argsort(-row, kind="stable")[:count]]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "query": self.query,
            "text": self.text,
            "query_words": [asdict(word) for word in self.query_words],
            "text_words": [asdict(word) for word in self.text_words],
            "alignment": None if self.alignment is None else self.alignment.round(4).tolist(),
            "scores": dict(self.scores),
            "truncated": self.truncated,
        }

    def _repr_html_(self) -> str:
        from trivec.search.explanation_html import still_picture

        return still_picture(self)

    def __repr__(self) -> str:
        scores = ", ".join(f"{mode} {score:.4f}" for mode, score in self.scores.items())
        return f"<Explanation of {self.query!r:.40} and {self.text!r:.40}: {scores}>"


@dataclass(frozen=True)
class Side:
    """What is known of the query, or of the text.

    Attributes:
        text: Itself.
        tokens: Its token ids with their character offsets, without special tokens.
        weights: Lexical weights by token id.
        vectors: (tokens - 1, dim) of all tokens read but `<s>`; None: there are none.
        read: How many of `tokens` are read.
    """

    text: str
    tokens: Sequence[tuple[int, tuple[int, int]]]
    weights: Mapping[int, float]
    vectors: FloatArray | None
    read: int


def explained(query: Side, text: Side, scores: Mapping[str, float], truncated: bool) -> Explanation:
    """Put together what `M3Model.explain` returns."""
    of_query, of_text = _words(query), _words(text)
    alignment = None
    if query.vectors is not None and text.vectors is not None:
        alignment = _alignment(query.vectors, [pieces for _, pieces in of_query], text.vectors, [p for _, p in of_text])
    words = tuple(word for word, _ in of_query), tuple(word for word, _ in of_text)
    return Explanation(query.text, text.text, *words, alignment, scores, truncated)


def _words(side: Side) -> list[tuple[Word, list[int]]]:
    """The words of a text, each with the numbers of its tokens."""
    pieces: list[list[tuple[int, int, int]]] = []  # of each word: number of the token, start, end
    for number, (_, (start, end)) in enumerate(side.tokens[: side.read]):
        if end == start:  # the mark of a word's beginning alone
            continue
        before = pieces[-1][-1][2] if pieces else -1
        if before == start and _join(side.text[start - 1], side.text[start]):
            pieces[-1].append((number, start, end))
        else:
            pieces.append([(number, start, end)])
    return [
        (
            Word(
                _first_letter(side.text, word[0][1], word[-1][2]),
                word[-1][2],
                float(sum(side.weights.get(side.tokens[number][0], 0.0) for number, _, _ in word)),
            ),
            [number for number, _, _ in word],
        )
        for word in pieces
    ]


def _first_letter(text: str, start: int, end: int) -> int:
    """Some tokenizers count the space before a word as part of it."""
    while start < end - 1 and text[start].isspace():
        start += 1
    return start


def _join(before: str, after: str) -> bool:
    """Whether two neighbouring characters are of one word."""
    if unicodedata.category(after).startswith("M") or unicodedata.category(before).startswith("M"):
        return not _without_spaces(before) and not _without_spaces(after)
    return before.isalnum() and after.isalnum() and not _without_spaces(before) and not _without_spaces(after)


def _without_spaces(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_WITHOUT_SPACES)


def _alignment(
    query: FloatArray, query_words: Iterable[list[int]], text: FloatArray, text_words: Sequence[list[int]]
) -> FloatArray:
    products = query @ text.T
    # Columns of words: the best of a word's tokens for each token of the query.
    columns = [products[:, word].max(axis=1) for word in text_words]
    by_word = np.stack(columns, axis=1) if columns else np.empty((len(query), 0), np.float32)
    rows = [by_word[word].mean(axis=0) for word in query_words]
    return np.stack(rows).astype(np.float32) if rows else np.empty((0, len(columns)), np.float32)
