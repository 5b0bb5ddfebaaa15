"""The figures of nano's card: retrieval and sentence matching on the development split, beside BM25 on the same pieces.

Questions to paragraphs (XQuAD), in one language and to English, and sentences to their English translation (Tatoeba,
NTREX). Each question has one right answer, so R@1 is accuracy and nDCG@10 is 1 / log2(1 + rank) within the first ten.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bm25s
import numpy as np
import torch

from data import PAIR_LANGUAGES, SPLIT_SEED, TARGET_LANGUAGES
from trivec.search.fusion import FusionWeights, choose_weights
from trivec.search.ndcg import ndcg_at_10
from trivec.training.losses import LossSettings, head_scores
from trivec.training.m3 import Representations, pad_token_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from data import Split
    from trivec.training.m3 import TrainableM3

MODES = ("dense", "sparse", "multi")
POOL_SENTENCES = 200
PART = 16  # texts encoded at a time


@dataclass(frozen=True)
class Task:
    """Queries, a pool of passages and the number of each query's right passage."""

    group: str
    name: str
    queries: list[str]
    passages: list[str]
    right: np.ndarray


def dev_tasks(dev: Split) -> list[Task]:
    """All tasks of the development split."""
    tasks = []
    by_language = {
        language: sorted((p for p in dev.passages if p.language == language), key=lambda p: p.aligned)
        for language in TARGET_LANGUAGES
    }
    english = by_language["en"]
    for language, passages in by_language.items():
        if [p.aligned for p in passages] != [p.aligned for p in english]:
            raise ValueError(f"the paragraphs of {language} are not those of en")
        queries = [question for p in passages for question in p.questions]
        right = np.repeat(np.arange(len(passages)), [len(p.questions) for p in passages])
        tasks.append(Task("xquad", language, queries, [p.text for p in passages], right))
        if language != "en":
            tasks.append(Task("xquad-en", language, queries, [p.text for p in english], right))
    all_english = sorted({english for pairs in dev.pairs.values() for _, english, _ in pairs})
    for language in PAIR_LANGUAGES:
        own = list(dict.fromkeys(english for _, english, _ in dev.pairs[language]))
        rest = [text for text in all_english if text not in set(own)]
        pool = own + random.Random(f"{SPLIT_SEED} {language}").sample(rest, POOL_SENTENCES - len(own))  # noqa: S311
        right = np.array([pool.index(english) for _, english, _ in dev.pairs[language]])
        tasks.append(Task("tatoeba", language, [text for text, _, _ in dev.pairs[language]], pool, right))
    sentences = [sentence for document in dev.documents for sentence in document]
    for language in TARGET_LANGUAGES[1:]:
        tasks.append(
            Task(
                "ntrex",
                language,
                [s[language] for s in sentences],
                [s["en"] for s in sentences],
                np.arange(len(sentences)),
            )
        )
    return tasks


class Encoder:
    """Represents texts with a model, each text once."""

    def __init__(self, model: TrainableM3, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.limit = model.config.max_position_embeddings - 2
        self.known: dict[str, tuple[torch.Tensor, ...]] = {}

    @torch.no_grad()
    def representations(self, texts: list[str]) -> Representations:
        """Representations of the texts, padded to the longest."""
        new = sorted({text for text in texts if text not in self.known}, key=len)
        for start in range(0, len(new), PART):
            part = new[start : start + PART]
            ids = [encoding.ids[: self.limit - 1] for encoding in self.tokenizer.encode_batch_fast(part)]
            ids = [row if row[-1] == 2 else [*row, 2] for row in ids]
            token_ids, mask = pad_token_ids(ids, 1, multiple=8)
            out = self.model(token_ids, mask)
            for row, text in enumerate(part):
                length = len(ids[row])
                self.known[text] = (
                    token_ids[row, :length],
                    out.dense[row].clone(),
                    out.weights[row, :length].clone(),
                    out.vectors[row, : length - 1].clone(),
                )
        rows = [self.known[text] for text in texts]

        def padded(column: int) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence([row[column] for row in rows], batch_first=True)

        lengths = torch.tensor([len(row[0]) for row in rows])
        mask = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
        return Representations(padded(0), mask, torch.stack([row[1] for row in rows]), padded(2), padded(3))


def task_scores(encoder: Encoder, task: Task) -> np.ndarray:
    """(3, queries, passages): dense, lexical and MaxSim scores."""
    with torch.no_grad():
        scores = head_scores(
            encoder.representations(task.queries),
            encoder.representations(task.passages),
            LossSettings(temperature=1.0),
            encoder.model.config.vocab_size,
        )
    return np.stack([scores[head].numpy() for head in ("dense", "sparse", "colbert")])


def bm25_scores(tokenizer: Tokenizer, task: Task) -> np.ndarray:
    """(queries, passages): BM25 (Lucene's, k1 1.5, b 0.75) over the model's own pieces."""

    def pieces(texts: list[str]) -> list[list[str]]:
        return [encoding.tokens for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    index = bm25s.BM25()
    index.index(pieces(task.passages), show_progress=False)
    return np.stack([index.get_scores(query) for query in pieces(task.queries)])


def r_at_1(scores: np.ndarray, right: np.ndarray) -> float:
    """Per cent of the queries whose right passage is first; ties count against it."""
    own = scores[np.arange(len(right)), right]
    return 100 * float(((scores >= own[:, None]).sum(1) == 1).mean())


def ndcg(scores: np.ndarray, right: np.ndarray) -> float:
    """nDCG@10 of queries with one right passage, in per cent; ties count against it."""
    return 100 * ndcg_at_10(scores, np.eye(scores.shape[1], dtype=bool)[right])


def tune_fusion(tasks: list[Task], scores: list[np.ndarray]) -> FusionWeights:
    """The weights of dense, sparse and multi-vector scores with the best mean nDCG@10 over the question tasks.

    Same-language tasks count twenty times as much as cross-language ones, whose figures change so much more.
    """
    chosen = [(task, three) for task, three in zip(tasks, scores, strict=True) if task.group in ("xquad", "xquad-en")]

    def quality(fused: list[np.ndarray]) -> float:
        found: dict[str, list[float]] = {"xquad": [], "xquad-en": []}
        for (task, _), score in zip(chosen, fused, strict=True):
            found[task.group].append(ndcg(score, task.right))
        return float(20 * np.mean(found["xquad"]) + np.mean(found["xquad-en"])) / 21

    return choose_weights([tuple(three) for _, three in chosen], quality)[0]


def table(
    model: TrainableM3, tokenizer: Tokenizer, tasks: list[Task], fusion: FusionWeights | None = None
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Figures of a model: group -> mode -> metric -> language (and "mean") -> per cent.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        tasks: The tasks.
        fusion: Weights of the sum; None tunes them on these tasks and stores them under "fusion".
    """
    encoder = Encoder(model, tokenizer)
    scores = [task_scores(encoder, task) for task in tasks]
    if fusion is None:
        fusion = tune_fusion(tasks, scores)
    out: dict = {"fusion": list(fusion)}
    for task, three in zip(tasks, scores, strict=True):
        modes = dict(zip(MODES, three, strict=True))
        modes["all"] = (np.array(fusion)[:, None, None] * three).sum(0)
        modes["all 1, 0.3, 1"] = (np.array([1, 0.3, 1])[:, None, None] * three).sum(0)
        for mode, values in modes.items():
            figures = out.setdefault(task.group, {}).setdefault(mode, {"R@1": {}, "nDCG@10": {}})
            figures["R@1"][task.name] = r_at_1(values, task.right)
            figures["nDCG@10"][task.name] = ndcg(values, task.right)
    return with_means(out)


def bm25_table(tokenizer: Tokenizer, tasks: list[Task]) -> dict:
    """BM25's figures, as `table` gives them."""
    out: dict = {}
    for task in tasks:
        values = bm25_scores(tokenizer, task)
        figures = out.setdefault(task.group, {}).setdefault("BM25 pieces", {"R@1": {}, "nDCG@10": {}})
        figures["R@1"][task.name] = r_at_1(values, task.right)
        figures["nDCG@10"][task.name] = ndcg(values, task.right)
    return with_means(out)


def with_means(figures: dict) -> dict:
    """Add the mean over languages."""
    for group, modes in figures.items():
        if group == "fusion":
            continue
        for metrics in modes.values():
            for languages in metrics.values():
                languages["mean"] = float(np.mean(list(languages.values())))
    return figures


def summary(figures: dict) -> str:
    """One line for each group: mean R@1 (nDCG@10 for XQuAD) of each mode."""
    lines = [f"fusion {figures['fusion']}"] if "fusion" in figures else []
    for group, modes in figures.items():
        if group != "fusion":
            parts = [f"{mode} {m['R@1']['mean']:.1f} ({m['nDCG@10']['mean']:.1f})" for mode, m in modes.items()]
            lines.append(f"{group:9s} R@1 (nDCG@10): " + "  ".join(parts))
    return "\n".join(lines)
