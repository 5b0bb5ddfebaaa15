"""Teaches nano's encoder what BM25 knows: how much a word counts in a text of this length that has it so often.

BM25's score (Robertson and Zaragoza 2009, as in Lucene without its factor) is a sum over shared words of
idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length)). A lexical weight is regressed to the root of idf
times that fraction, in queries and passages alike: in a short query the fraction is nearly the same for every word,
so the product of two weights is BM25's term but for a factor. Every token of any text is an example, so minutes do.

The idf is that of a piece's own language: over all texts together, every word of a rare language would be rare. Its
range is narrowed, as rare words differ little among few passages. k1, mean length and power were chosen on the
development split (BM25's usual k1 of 1.5 without narrowing reaches 94.5 % nDCG@10 there, these 95.0 %).
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from batches import BEGIN, END, WINDOW
from data import LANGUAGES, TARGET_LANGUAGES
from trivec.training.m3 import TrainableM3, pad_token_ids

if TYPE_CHECKING:
    from batches import NanoBatches

logger = logging.getLogger("nano")

K1, B, MEAN_LENGTH = 1.0, 0.75, 200.0
LARGEST_IDF, IDF_POWER = 6.0, 0.7
SCALE = 0.1  # of the weights' squares, so that lexical scores are a few times as large as those of the other two
LONGEST, SHORTEST, QUESTION_LENGTH = 500, 12, 40  # a model that saw no longer text would guess at its length
NEWS_SENTENCES = 16
PAD = 1


class LexicalTexts:
    """Texts of all languages and lengths with the weights their tokens are to have.

    Args:
        source: Where they come from, tokenized.
        seed: Of everything drawn.

    Attributes:
        idf: (pieces,) float, minus the log of the share of texts with a piece, in the language where that is greatest.
    """

    def __init__(self, source: NanoBatches, seed: int) -> None:
        self.seed = seed
        self.news = source.news
        self.passages: dict[str, list[np.ndarray]] = {}
        self.questions: dict[str, list[np.ndarray]] = {}
        for language, item in source.items():
            self.passages.setdefault(language, []).append(item.text)
            self.questions.setdefault(language, []).extend(item.questions)
        self.languages = sorted({*self.passages, *LANGUAGES})
        self.idf = self._idf(source.tokenizer.get_vocab_size())

    def _idf(self, pieces: int) -> np.ndarray:
        greatest = np.zeros(pieces)
        for language in self.languages:
            texts = list(self.passages.get(language, ()))
            for document in self.news:
                for start in range(0, len(document), WINDOW) if language in document[0] else ():
                    texts.append(np.concatenate([sentence[language] for sentence in document[start : start + WINDOW]]))
            frequency = np.bincount(np.concatenate([np.unique(text) for text in texts]), minlength=pieces)
            greatest = np.maximum(greatest, (frequency + 0.3) / (len(texts) + 1))
        out: np.ndarray = -np.log(greatest)
        return out

    def batch(self, step: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Texts of about one length, `tokens` together: token ids, mask, and float weights, all (texts, length)."""
        rng = np.random.default_rng([self.seed, step])
        length = int(np.clip(np.exp(rng.normal(5.1, 0.8)), SHORTEST, LONGEST))
        texts: list[np.ndarray] = []
        while sum(map(len, texts)) < tokens:
            text = self._text(rng, length)
            kept = min(LONGEST, int(length * rng.uniform(0.88, 1.12)))
            if len(text) > kept:
                start = rng.integers(len(text) - kept + 1)
                text = text[start : start + kept]
            if len(text) > 2:
                texts.append(text)
        token_ids, mask = pad_token_ids([[BEGIN, *text.tolist(), END] for text in texts], PAD, multiple=8)
        weights = torch.zeros(token_ids.shape)
        for row, text in enumerate(texts):
            weights[row, 1 : len(text) + 1] = torch.from_numpy(self.weights(text))
        return token_ids, mask, weights

    def weights(self, text: np.ndarray) -> np.ndarray:
        """The weight that each token of a text is to have."""
        pieces, place, times = np.unique(text, return_inverse=True, return_counts=True)
        fraction = times * (K1 + 1) / (times + K1 * (1 - B + B * len(text) / MEAN_LENGTH))
        idf = np.minimum(self.idf[pieces], LARGEST_IDF) ** IDF_POWER
        out: np.ndarray = (np.sqrt(SCALE * idf) * fraction)[place]
        return out

    def _text(self, rng: np.random.Generator, length: int) -> np.ndarray:
        languages = self.languages if rng.random() < 0.4 else list(TARGET_LANGUAGES)
        language = languages[rng.integers(len(languages))]
        if length < QUESTION_LENGTH and language in self.questions:
            questions = self.questions[language]
            return questions[rng.integers(len(questions))]
        if language in self.passages and (language not in LANGUAGES or rng.random() < 0.7):
            passages = self.passages[language]
            return passages[rng.integers(len(passages))]
        document = self.news[rng.integers(len(self.news))]
        start = rng.integers(len(document))
        return np.concatenate([sentence[language] for sentence in document[start : start + NEWS_SENTENCES]])


def lexical_error(model: TrainableM3, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Squared error of the lexical weights over the mean square of what they are to be."""
    token_ids, mask, wanted = batch
    return _error(model, model(token_ids, mask).weights, token_ids, mask, wanted)


def train_lexical(model: TrainableM3, texts: LexicalTexts, steps: int, tokens: int = 4500) -> None:
    """Regress the lexical weights, while dense and token vectors stay as they are."""
    before = copy.deepcopy(model).requires_grad_(False)
    words = model.encoder.embeddings.word_embeddings.weight
    others = [parameter for parameter in model.parameters() if parameter is not words]
    optimizer = torch.optim.AdamW(
        [{"params": [words], "highest": 1e-4}, {"params": others, "highest": 7e-4}],
        lr=0.0,
        weight_decay=0.0,
        fused=True,
    )
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * min((step + 1) / 30, 1 - step / steps)
        token_ids, mask, wanted = texts.batch(step, tokens)
        out = model(token_ids, mask)
        with torch.no_grad():
            kept = before(token_ids, mask)
        error = _error(model, out.weights, token_ids, mask, wanted)
        dense = 1 - (out.dense * kept.dense).sum(-1).mean()
        vectors = 1 - (out.vectors * kept.vectors).sum(-1)[mask[:, 1:] == 1].mean()
        (5 * error + 2 * dense + 2 * vectors).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 50 == 0:
            logger.info("lexical step %d: error %.4f, vectors moved by %.4f", step + 1, error.item(), vectors.item())


def _error(model: TrainableM3, weights: Tensor | None, token_ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
    if weights is None:
        raise ValueError("the model has no sparse head")
    counted = (mask == 1) & model.can_have_weight(token_ids)
    out: Tensor = (weights - wanted)[counted].square().mean() / wanted[counted].square().mean()
    return out
