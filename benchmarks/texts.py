"""Texts of wanted token lengths, put together from the sample sentences with a seeded generator.

Lengths count `<s>` and `</s>`. The same seed gives the same texts, so every peer of a round reads the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from trivec.checkpoint.tokenizer import M3Tokenizer

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from sample_texts import SENTENCES

# Means of the English XQuAD set: paragraphs and the questions asked about them.
PARAGRAPH_TOKENS = 184
QUESTION_TOKENS = 16


class Texts:
    """Draws texts for one checkpoint.

    Attributes:
        max_length: The checkpoint's own; no text is longer.
    """

    def __init__(self, checkpoint: Path, max_length: int) -> None:
        self.max_length = max_length
        self._tokenizer = M3Tokenizer(checkpoint / "tokenizer.json")
        self._languages = [(of_language, self.lengths(of_language)) for of_language in SENTENCES.values()]

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self._tokenizer.encode_batch(texts, self.max_length).token_ids]

    def paragraphs(self, count: int, seed: int) -> list[str]:
        """Texts of 184 tokens on average, two thirds of them between 120 and 265."""
        draw = np.random.default_rng([1, seed])
        return [self.of_length(n, draw) for n in _around(PARAGRAPH_TOKENS, 0.4, count, draw)]

    def questions(self, count: int, seed: int) -> list[str]:
        """Texts of 16 tokens on average."""
        draw = np.random.default_rng([2, seed])
        return [self.of_length(n, draw) for n in _around(QUESTION_TOKENS, 0.3, count, draw)]

    def mixed(self, count: int, seed: int, longest: int = 2000) -> list[str]:
        """Texts of 5 to `longest` tokens, as many of 5 to 50 as of 50 to 500."""
        draw = np.random.default_rng([3, seed])
        return [self.of_length(int(n), draw) for n in np.exp(draw.uniform(np.log(5), np.log(longest), count))]

    def of_length(self, tokens: int, draw: np.random.Generator) -> str:
        """One text of `tokens` tokens in a drawn language."""
        pieces = max(1, min(tokens, self.max_length) - 2)
        sentences, lengths = self._languages[draw.integers(len(self._languages))]
        chosen, enough = [], 0
        while enough < pieces:
            i = int(draw.integers(len(sentences)))
            chosen.append(sentences[i])
            enough += lengths[i] - 2
        text = " ".join(chosen)
        spans = self._tokenizer.token_spans(text)
        return text[: spans[min(pieces, len(spans)) - 1][1]]


def _around(mean: int, spread: float, count: int, draw: np.random.Generator) -> list[int]:
    """Log-normal lengths with the given mean, not further off than factors of 3."""
    lengths = mean * np.exp(draw.normal(-spread * spread / 2, spread, count))
    return [int(n) for n in np.clip(np.round(lengths), mean / 3, mean * 3)]
