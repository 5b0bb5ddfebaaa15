"""Teaches nano's encoder what BM25 knows: how much a word counts in a text of this length that has it so often.

BM25's score (Robertson and Zaragoza 2009, as in Lucene without its factor) is a sum over shared words of
idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length)). A lexical weight is regressed to the root of idf
times that fraction, in queries and passages alike: in a short query the fraction is nearly the same for every word,
so the product of two weights is BM25's term but for a factor. Every token of any text is an example, so minutes do.

The idf is that of a piece's own language: over all texts together, every word of a rare language would be rare. Its
range is narrowed, as rare words differ little among few passages. In a question the words of questions ("which",
"many") count less: passages seldom have them, and tell nothing when they do. k1, mean length, power and what questions
lose were chosen on the development split (BM25's usual k1 of 1.5 without narrowing reaches 94.5 % nDCG@10 there,
these 95.3 %).
"""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from batches import BEGIN, END, LONGEST_QUESTION, WINDOW
from data import LANGUAGES, TARGET_LANGUAGES
from trivec.training.m3 import TrainableM3, pad_token_ids
from trivec.training.trainer import is_bf16_fast

if TYPE_CHECKING:
    from batches import NanoBatches

logger = logging.getLogger("nano")

K1, B, MEAN_LENGTH = 1.0, 0.75, 200.0
LARGEST_IDF, IDF_POWER = 6.0, 0.7
QUESTION_FALL = 20.0  # a word in a share s of the questions has its weight divided by the root of 1 + 20 s in them
SCALE = 0.1  # of the weights' squares, so that lexical scores are a few times as large as those of the other two
LONGEST, SHORTEST = 1000, 12  # a model that saw no longer text would guess at its length
QUESTION_SHARE, TOKENS = 0.2, 4500  # of the batches; of a batch
NEWS_SENTENCES = 32
PAD = 1


class LexicalTexts:
    """Texts of all languages and lengths with the weights their tokens are to have.

    Args:
        source: Where they come from, tokenized.
        seed: Of everything drawn.

    Attributes:
        rarity: (pieces,) float, the root of the scaled idf, by the language in which that is least.
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
        pieces = source.tokenizer.get_vocab_size()
        self.rarity = np.sqrt(SCALE * np.minimum(self._idf(pieces), LARGEST_IDF) ** IDF_POWER)
        self.falls = {
            language: np.sqrt(1 + QUESTION_FALL * _shares(questions, pieces))
            for language, questions in self.questions.items()
        }

    def _idf(self, pieces: int) -> np.ndarray:
        greatest = np.zeros(pieces)
        for language in self.languages:
            texts = list(self.passages.get(language, ()))
            for document in self.news:
                for start in range(0, len(document), WINDOW) if language in document[0] else ():
                    texts.append(np.concatenate([sentence[language] for sentence in document[start : start + WINDOW]]))
            greatest = np.maximum(greatest, _shares(texts, pieces))
        out: np.ndarray = -np.log(greatest)
        return out

    def batch(self, step: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Questions, or texts of about one length, `tokens` together.

        Returns:
            Token ids, mask, and float weights, all (texts, length).
        """
        rng = np.random.default_rng([self.seed, step])
        length = int(np.clip(np.exp(rng.normal(5.1, 0.8)), SHORTEST, LONGEST))
        draw = self._question if rng.random() < QUESTION_SHARE else partial(self._stretch, length=length)
        texts: list[np.ndarray] = []
        weights: list[Tensor] = []
        while sum(map(len, texts)) < tokens:
            text, divisor = draw(rng)
            if len(text) > 2:
                texts.append(text)
                weights.append(functional.pad(torch.from_numpy(self.weights(text) / divisor).float(), (1, 1)))
        token_ids, mask = pad_token_ids([[BEGIN, *text.tolist(), END] for text in texts], PAD, multiple=8)
        wanted = torch.zeros(token_ids.shape)
        wanted[mask == 1] = torch.cat(weights)
        return token_ids, mask, wanted

    def weights(self, text: np.ndarray) -> np.ndarray:
        """The weight that each token of a passage is to have."""
        pieces, place, times = np.unique(text, return_inverse=True, return_counts=True)
        fraction = times * (K1 + 1) / (times + K1 * (1 - B + B * len(text) / MEAN_LENGTH))
        out: np.ndarray = (self.rarity[pieces] * fraction)[place]
        return out

    def _language(self, rng: np.random.Generator) -> str:
        languages = self.languages if rng.random() < 0.4 else list(TARGET_LANGUAGES)
        return languages[rng.integers(len(languages))]

    def _question(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        language = self._language(rng)
        while language not in self.questions:
            language = self._language(rng)
        questions = self.questions[language]
        question = questions[rng.integers(len(questions))][:LONGEST_QUESTION]
        return question, self.falls[language][question]

    def _stretch(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, float]:
        language = self._language(rng)
        if language in self.passages and (language not in LANGUAGES or rng.random() < 0.7):
            passages = self.passages[language]
            text = passages[rng.integers(len(passages))]
        else:
            document = self.news[rng.integers(len(self.news))]
            start = rng.integers(len(document))
            text = np.concatenate([sentence[language] for sentence in document[start : start + NEWS_SENTENCES]])
        kept = min(LONGEST, int(length * rng.uniform(0.88, 1.12)))
        start = rng.integers(max(1, len(text) - kept + 1))
        return text[start : start + kept], 1.0


def _shares(texts: list[np.ndarray], pieces: int) -> np.ndarray:
    """(pieces,) share of the texts that have a piece, never quite 0."""
    frequency = np.bincount(np.concatenate([np.unique(text) for text in texts]), minlength=pieces)
    out: np.ndarray = (frequency + 0.3) / (len(texts) + 1)
    return out


def lexical_error(model: TrainableM3, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Squared error of the lexical weights over the mean square of what they are to be."""
    token_ids, mask, wanted = batch
    with _bf16_where_fast():
        weights = model(token_ids, mask).weights
    return _error(model, weights, token_ids, mask, wanted)


def _bf16_where_fast() -> torch.autocast:
    """Matrix products in bfloat16 on processors that have instructions for it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=is_bf16_fast(torch.device("cpu")))


def train_lexical(model: TrainableM3, texts: LexicalTexts, first: int, steps: int, rate: float) -> None:
    """Regress the lexical weights, while dense and token vectors stay as they are.

    Args:
        model: The model.
        texts: Where the batches come from.
        first: The number of the first batch.
        steps: How many.
        rate: The highest learning rate; word embeddings have a seventh of it.
    """
    before = copy.deepcopy(model).requires_grad_(False)
    words = model.encoder.embeddings.word_embeddings.weight
    others = [parameter for parameter in model.parameters() if parameter is not words]
    optimizer = torch.optim.AdamW(
        [{"params": [words], "highest": rate / 7}, {"params": others, "highest": rate}],
        lr=0.0,
        weight_decay=0.0,
        fused=True,
    )
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * min((step + 1) / 30, 1 - step / steps)
        token_ids, mask, wanted = texts.batch(first + step, TOKENS)
        with _bf16_where_fast():
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
