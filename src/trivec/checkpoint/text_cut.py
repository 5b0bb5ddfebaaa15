"""Where a long text can be cut before it is tokenized, so that the tokens of its start stay what they are.

Of a text of a megabyte, a model reads the first few thousand tokens; normalizing and tokenizing the rest takes seconds,
and up to a gigabyte where a character becomes eighteen (U+FDFA). A cut changes nothing if three things hold:

- No added token (`<mask>`) lies across it.
- Both sides are normalized as they would be together: the normalizers of XLM-RoBERTa look at one grapheme cluster at a
  time, and what stands beside the cut are characters that begin and end one.
- No piece of the vocabulary lies across it. Then every tokenization has a boundary there, the best one too, and is the
  best of either side by itself, also where a language has no blanks. A blank is such a place; so are most places
  between two ideographs.

Knows the tokenizer's parts; where it has one that is not known here, nothing is cut.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORD_START = "\u2581"
# Letters, digits and punctuation are grapheme clusters of their own, but for: Hangul jamo, which join to syllables; a
# letter that is written before what follows it; the vowels of Thai and Lao that join what goes before.
_CATEGORIES = frozenset(("Lo", "Lu", "Ll", "Nd", "Po", "Ps", "Pe"))
_JOINING = frozenset((*range(0x1100, 0x1200), *range(0xA960, 0xA980), *range(0xD7B0, 0xD800), 0x0D4E, 0x0E33, 0x0EB3))
# How far back a place to cut is looked for, and how much text on either side is normalized to judge one.
_REACH, _WINDOW = 2_000, 40  # characters


class Truncation:
    """Finds places to cut texts for one tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self._added = [token.content for token in added]
        self._possible = (
            _parts_are_known(tokenizer)
            and not any(token.normalized or token.single_word for token in added)
            and not any(character.isspace() for content in self._added for character in content)
        )
        self._longest_piece: int | None = None

    def start_of(self, text: str, limit: int) -> str:
        """Return the longest start of at most `limit` characters whose tokens are the first of the whole text's.

        But for one: the last token may be a word's beginning that the whole text has not. The whole text is returned if
        it is no longer, or has no place to cut within reach.
        """
        if len(text) <= limit or not self._possible:
            return text
        for cut in range(limit, max(limit - _REACH, _WINDOW), -1):
            if self._is_safe(text, cut):
                return text[:cut]
        return text

    def _is_safe(self, text: str, cut: int) -> bool:
        before, after = text[cut - 1], text[cut]
        if not _stands_alone(before) or not (after == " " or _stands_alone(after)):
            return False
        for content in self._added:
            if text.find(content, max(0, cut - len(content) + 1), cut + len(content) - 1) >= 0:
                return False
        # The window must not cut a grapheme cluster in two either.
        if not _stands_alone(text[cut - _WINDOW]) or not _stands_alone(text[cut + _WINDOW : cut + _WINDOW + 1] or "a"):
            return False
        left = self._normalized(text[cut - _WINDOW : cut])
        right = self._normalized(text[cut : cut + _WINDOW])
        if right[:1].isspace() or left[-1:].isspace():
            return True
        longest = self._longest()
        # A character outside the vocabulary could become one token with others of its kind across the cut.
        if len(left) < longest or len(right) < longest or self._tokenizer.token_to_id(left[-1]) is None:
            return False
        left = left.replace(" ", _WORD_START)
        return all(
            self._tokenizer.token_to_id(left[-i:] + right[:j]) is None
            for i in range(1, longest)
            for j in range(1, longest - i + 1)
        )

    def _normalized(self, text: str) -> str:
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _longest(self) -> int:
        if self._longest_piece is None:
            self._longest_piece = max(map(len, self._tokenizer.get_vocab(with_added_tokens=False)))
        return self._longest_piece


def _stands_alone(character: str) -> bool:
    code = ord(character)
    return code < 0x10000 and code not in _JOINING and unicodedata.category(character) in _CATEGORIES


def _parts_are_known(tokenizer: Tokenizer) -> bool:
    """Whether it normalizes by grapheme cluster or less, splits at blanks, and takes the best pieces."""
    normalizers = _parts(tokenizer.normalizer, "normalizers")
    splitters = _parts(tokenizer.pre_tokenizer, "pretokenizers")
    return (
        type(tokenizer.model).__name__ == "Unigram"
        and all(
            part["type"] in ("Precompiled", "Nmt", "NFKC", "Strip")
            or (part["type"] == "Replace" and part["pattern"] == {"Regex": " {2,}"})
            for part in normalizers
        )
        and bool(splitters)
        and all(
            part["type"] == "WhitespaceSplit" or (part["type"] == "Metaspace" and part.get("split", False))
            for part in splitters
        )
    )


def _parts(part: Any, several: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    return [state] if state["type"] != "Sequence" else list(state[several])  # one within another is not known
