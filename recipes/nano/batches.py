"""nano's batches: a task is drawn for each step, and its batch from the training split.

The same seed and step always give the same batch, whatever came before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from data import PAIR_LANGUAGES, TARGET_LANGUAGES
from trivec.training.batches import TokenBatch
from trivec.training.losses import LossSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from data import Passage, Split

Ids = np.ndarray
BEGIN, END = 0, 2
WINDOW = 5  # sentences of a news passage
# Longer texts are cut: one among hundreds would have all others padded to its length.
LONGEST_QUESTION = 40
LONGEST_SENTENCE = {"news": 64, "sentence": 64, "short sentence": 24, "word": 24}


@dataclass(frozen=True)
class Recipe:
    """What is drawn how often, and how large.

    Attributes:
        tasks: Task to weight.
        question_batch: Questions of a batch; 6 in 10 of them where passages are whole.
        sentence_batch: Pairs of long sentences in a batch; twice as many short ones.
        passage_pieces: A passage is cropped to so many pieces around those of its question.
        whole_pieces: In some batches, to so many: most passages are whole then.
        whole_share: How often.
        by_size: Draw question sets in proportion to the square root of their number of passages, whatever their
            language; else each of the ten target languages alike, which repeats the small sets often.
    """

    tasks: tuple[tuple[str, float], ...] = (
        ("question", 3.5),
        ("crossed question", 1.5),
        ("switched question", 0.8),
        ("news", 1.5),
        ("sentence", 0.8),
        ("short sentence", 1.2),
    )
    question_batch: int = 80
    sentence_batch: int = 128
    passage_pieces: int = 128
    whole_pieces: int = 320
    whole_share: float = 0.0
    by_size: bool = False


@dataclass(frozen=True)
class _Tokenized:
    text: Ids
    questions: list[Ids]
    passage: Passage


class NanoBatches:
    """The source of nano's batches.

    Args:
        split: The training split.
        tokenizer: nano's tokenizer.
        recipe: What is drawn.
        loss: Loss settings; tasks across languages train the lexical weights less.
        seed: Of everything drawn.
    """

    def __init__(self, split: Split, tokenizer: Tokenizer, recipe: Recipe, loss: LossSettings, seed: int) -> None:
        self.recipe = recipe
        self.loss = loss
        self.crossed_loss = replace(loss, loss_weights=(loss.loss_weights[0], 0.1, loss.loss_weights[2]))
        self.seed = seed
        self.tokenizer = tokenizer
        self.words = _dictionaries(split)
        self.word_lists = dict(split.words)
        passages = self._passages(split)
        frequency = np.bincount(
            np.concatenate([np.unique(p.text) for p in passages]), minlength=tokenizer.get_vocab_size()
        )
        self.idf = np.log((len(passages) + 1) / (frequency + 1))
        # language -> source -> article -> passages
        self.by_language: dict[str, dict[str, dict[str, list[_Tokenized]]]] = {}
        self.aligned: dict[str, dict[str, _Tokenized]] = {}
        for item in passages:
            p = item.passage
            self.by_language.setdefault(p.language, {}).setdefault(p.source, {}).setdefault(p.article, []).append(item)
            if p.aligned:
                self.aligned.setdefault(p.aligned, {})[p.language] = item
        self.aligned_keys = sorted(self.aligned)
        self.news = [
            [dict(zip(sentence, self._ids(list(sentence.values())), strict=True)) for sentence in document]
            for document in split.documents
        ]
        self.pairs = {
            kind: {
                language: list(
                    zip(self._ids([a for a, _, _ in chosen]), self._ids([b for _, b, _ in chosen]), strict=True)
                )
                for language, pairs in sorted(split.pairs.items())
                if (chosen := [pair for pair in pairs if (pair[2] == "tatoeba") == (kind == "short")])
            }
            for kind in ("short", "long")
        }

    def items(self) -> Iterator[tuple[str, _Tokenized]]:
        """Every passage with its questions, and its language."""
        for language, sources in self.by_language.items():
            for articles in sources.values():
                for passages in articles.values():
                    yield from ((language, item) for item in passages)

    def batch(self, step: int) -> TokenBatch:
        """The batch of a step."""
        rng = np.random.default_rng([self.seed, step])
        names = [name for name, _ in self.recipe.tasks]
        weights = np.array([weight for _, weight in self.recipe.tasks])
        task = names[rng.choice(len(names), p=weights / weights.sum())]
        draw = {
            "question": self._questions,
            "crossed question": self._crossed_questions,
            "switched question": self._switched_questions,
            "news": self._news,
            "sentence": self._long_sentences,
            "short sentence": self._short_sentences,
            "word": self._words,
        }[task]
        pieces, size = self.recipe.passage_pieces, self.recipe.question_batch
        if self.recipe.whole_share and rng.random() < self.recipe.whole_share:
            pieces, size = self.recipe.whole_pieces, size * 6 // 10
        name, queries, passages = draw(rng, pieces, size)
        crossed = task not in ("question", "news")
        longest = LONGEST_SENTENCE.get(task, LONGEST_QUESTION)
        longest_passage = longest if "sentence" in task or task == "word" else self.recipe.whole_pieces
        return TokenBatch(
            name,
            [[BEGIN, *ids[:longest].tolist(), END] for ids in queries],
            [[BEGIN, *ids[:longest_passage].tolist(), END] for ids in passages],
            loss=self.crossed_loss if crossed else self.loss,
        )

    def _ids(self, texts: list[str]) -> list[Ids]:
        return [
            np.array(encoding.ids, dtype=np.int32)
            for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def _passages(self, split: Split) -> list[_Tokenized]:
        texts = self._ids([p.text for p in split.passages])
        questions = iter(self._ids([q for p in split.passages for q in p.questions]))
        return [
            _Tokenized(text, [next(questions) for _ in p.questions], p)
            for text, p in zip(texts, split.passages, strict=True)
        ]

    def _crop(self, rng: np.random.Generator, passage: Ids, clue: Ids, pieces: int) -> Ids:
        """The stretch of a passage whose pieces match those of the clue best, by idf, moved by chance a little."""
        if len(passage) <= pieces:
            return passage
        matched = np.where(np.isin(passage, clue), self.idf[passage], 0.0)
        total = np.concatenate([[0.0], np.cumsum(matched)])
        score = total[pieces:] - total[:-pieces]
        start = int(rng.choice(np.flatnonzero(score >= score.max() - 1e-6)))
        start = int(np.clip(start + rng.integers(-pieces // 4, pieces // 4 + 1), 0, len(passage) - pieces))
        return passage[start : start + pieces]

    def _draw_passages(
        self, rng: np.random.Generator, articles: dict[str, list[_Tokenized]], size: int
    ) -> list[_Tokenized]:
        """Distinct passages, up to four of one article: hard negatives of each other."""
        chosen: list[_Tokenized] = []
        names = list(articles)
        for number in rng.permutation(len(names)):
            items = articles[names[number]]
            take = rng.permutation(len(items))[:4] if len(items) > 1 else [0]
            chosen += [items[i] for i in take]
            if len(chosen) >= size:
                break
        return chosen[:size]

    def _questions(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        languages = sorted(self.by_language)
        if not self.recipe.by_size:
            others = [code for code in languages if code not in TARGET_LANGUAGES]
            languages = [str(rng.choice(TARGET_LANGUAGES if rng.random() < 0.85 else others))]
        sets = [(language, source) for language in languages for source in sorted(self.by_language[language])]
        sizes = np.array([sum(map(len, self.by_language[code][name].values())) for code, name in sets], dtype=float)
        language, source = sets[rng.choice(len(sets), p=sizes**0.5 / (sizes**0.5).sum())]
        sources = self.by_language[language]
        items = self._draw_passages(rng, sources[source], size)
        questions = [item.questions[rng.integers(len(item.questions))] for item in items]
        passages = [self._crop(rng, item.text, q, pieces) for item, q in zip(items, questions, strict=True)]
        return f"question {language}", questions, passages

    def _crossed_questions(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        keys = rng.permutation(len(self.aligned_keys))[:size]
        to = "en" if rng.random() < 0.6 else str(rng.choice(TARGET_LANGUAGES))
        questions, passages = [], []
        for number in keys:
            group = self.aligned[self.aligned_keys[number]]
            asked = group[str(rng.choice(sorted(group)))]
            chosen = int(rng.integers(len(asked.questions)))
            questions.append(asked.questions[chosen])
            # the same question in the passage's language finds the stretch to crop to
            clue = group[to].questions[min(chosen, len(group[to].questions) - 1)]
            passages.append(self._crop(rng, group[to].text, clue, pieces))
        return f"crossed question to {to}", questions, passages

    def _switched_questions(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        sources = self.by_language["en"]
        source = str(rng.choice(["qa_squad2rt_en_a", "qa_squad2rt_en_b", "qa_squad_dev_en"]))
        items = self._draw_passages(rng, sources[source], size)
        texts, clues = [], []
        for item in items:
            number = int(rng.integers(len(item.questions)))
            words = self.words[str(rng.choice(sorted(self.words)))]
            clues.append(item.questions[number])
            texts.append(_switch(rng, item.passage.questions[number], words))
        passages = [self._crop(rng, item.text, clue, pieces) for item, clue in zip(items, clues, strict=True)]
        return "switched question", self._ids(texts), passages

    def _news(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        """A sentence and the passage around it, in the same language (four times in ten) or another."""
        same = rng.random() < 0.4
        to = str(rng.choice(TARGET_LANGUAGES)) if same or rng.random() < 0.5 else "en"
        queries, passages = [], []
        for number in rng.permutation(len(self.news)):
            document = self.news[number]
            for start in range(int(rng.integers(WINDOW)), len(document) - 1, WINDOW):
                window = document[start : start + WINDOW]
                asked = int(rng.integers(len(window)))
                language = to if same else str(rng.choice(TARGET_LANGUAGES if rng.random() < 0.7 else PAIR_LANGUAGES))
                query = window[asked][language]
                left_out = same and len(window) > 2 and rng.random() < 0.3
                kept = [s[to] for i, s in enumerate(window) if not (left_out and i == asked)]
                passage = np.concatenate(kept)
                queries.append(query)
                passages.append(passage if left_out else self._crop(rng, passage, window[asked][to], pieces))
            if len(queries) >= size:
                break
        return f"news {'in' if same else 'to'} {to}", queries[:size], [p[:pieces] for p in passages[:size]]

    def _long_sentences(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        chosen: dict[bytes, tuple[Ids, Ids]] = {}
        languages = sorted(self.pairs["long"])
        while len(chosen) < self.recipe.sentence_batch:
            if rng.random() < 0.6:
                document = self.news[rng.integers(len(self.news))]
                sentence = document[rng.integers(len(document))]
                source = str(rng.choice(TARGET_LANGUAGES[1:] if rng.random() < 0.7 else PAIR_LANGUAGES))
                pair = (sentence[source], sentence["en"])
            else:
                pairs = self.pairs["long"][languages[rng.integers(len(languages))]]
                pair = pairs[rng.integers(len(pairs))]
            chosen.setdefault(pair[1].tobytes(), pair)
        return _directed(rng, "sentence", list(chosen.values()))

    def _short_sentences(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        chosen: dict[bytes, tuple[Ids, Ids]] = {}
        languages = sorted(self.pairs["short"])
        while len(chosen) < 2 * self.recipe.sentence_batch:
            pairs = self.pairs["short"][languages[rng.integers(len(languages))]]
            pair = pairs[rng.integers(len(pairs))]
            chosen.setdefault(pair[1].tobytes(), pair)
        return _directed(rng, "short sentence", list(chosen.values()))

    def _words(self, rng: np.random.Generator, pieces: int, size: int) -> tuple[str, list[Ids], list[Ids]]:
        chosen: dict[str, str] = {}
        languages = sorted(self.words)
        while len(chosen) < 4 * self.recipe.sentence_batch:
            words = self.word_lists[languages[rng.integers(len(languages))]]
            foreign, english = words[rng.integers(len(words))]
            chosen.setdefault(english, foreign)
        return _directed(rng, "word", list(zip(self._ids(list(chosen.values())), self._ids(list(chosen)), strict=True)))


def _directed(rng: np.random.Generator, name: str, pairs: list[tuple[Ids, Ids]]) -> tuple[str, list[Ids], list[Ids]]:
    """To English three times in four, else from English."""
    foreign, english = (list(side) for side in zip(*pairs, strict=True))
    return (f"{name} to en", foreign, english) if rng.random() < 0.75 else (f"{name} from en", english, foreign)


def _dictionaries(split: Split) -> dict[str, dict[str, list[str]]]:
    """Language -> English word -> its translations, for languages with more than 4,000 entries."""
    out: dict[str, dict[str, list[str]]] = {}
    for language, words in split.words.items():
        if len(words) > 4000:
            table = out.setdefault(language, {})
            for word, english in words:
                table.setdefault(english.lower(), []).append(word)
    return out


def _switch(rng: np.random.Generator, text: str, words: dict[str, list[str]]) -> str:
    """Replace most words that the dictionary has by one of their translations."""

    def translated(match: re.Match[str]) -> str:
        word = match.group()
        known = words.get(word.lower()) or words.get(word.lower().removesuffix("s"))
        return str(rng.choice(known)) if known and rng.random() < 0.8 else word

    return re.sub(r"[A-Za-z]+", translated, text)
