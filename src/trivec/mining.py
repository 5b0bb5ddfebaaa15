"""Hard negatives for training: passages that a model ranks high for a query though they do not answer it.

The corpus goes into a Milvus Lite file, every query is searched in it, and negatives are drawn from a range of ranks. A
passage that scores as high as a positive is more likely an answer nobody marked than a hard negative: those within a
margin of the positive's score are left out (NV-Retriever's TopK-PercPos, arXiv 2407.15831).
Rows in and out are FlagEmbedding's: `query`, `pos`, `neg`.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trivec.documents import Document, content_id
from trivec.encoding import warn_of_truncation
from trivec.evaluation.datasets import passages, read_rows
from trivec.milvus import Hit, M3Collection, Weighted
from trivec.model import M3Model, encode_without_warning
from trivec.search.fusion import Candidate
from trivec.search.modes import PairMode, check_mode
from trivec.support.part_files import check_writable, replacing
from trivec.support.progress import progress_bar
from trivec.vectors.embeddings import M3Embedding
from trivec.vectors.scoring import dense_score, lexical_score

_QUERIES_AT_ONCE = 100


@dataclass(frozen=True)
class Mined:
    """What `mine_negatives` did.

    Attributes:
        queries: Rows written.
        negatives: Negatives found for them, those listed in the input not counted.
        short: Queries for which fewer were found than asked for.
        too_close: Passages left out as they score too close to a positive.
    """

    queries: int
    negatives: int
    short: int
    too_close: int


@dataclass(frozen=True)
class _Question:
    """One query of the input, with the rest of its row."""

    query: str
    positives: list[str]
    negatives: list[str]
    other: Mapping[str, Any]


def mine_negatives(
    model: M3Model,
    questions: str | Path,
    output: str | Path,
    *,
    corpus: Iterable[Document | str] | None = None,
    mode: PairMode = "dense",
    negatives: int = 15,
    ranks: tuple[int, int] = (2, 200),
    margin: float = 0.05,
    seed: int = 0,
    max_batch_tokens: int | None = None,
    max_length: int | None = None,
    show_progress: bool = True,
) -> Mined:
    """Write a training file with hard negatives for every query of a file.

    Args:
        model: Searches and scores.
        questions: JSON lines with `query` (or `queries`), `pos` and optionally `neg`; other fields are kept.
        output: The file to write, one row a query; negatives listed in the input come first. It is put in place when it
            is complete. May be `questions` itself.
        corpus: Where negatives are looked for; all `pos` and `neg` texts of `questions` if None. Passages must fit
            Milvus's 65,535 bytes.
        mode: How to search: "hybrid" is the sum of dense and sparse score, weighted as the model says.
        negatives: How many to draw for each query, at most.
        ranks: First and last rank (from 1) to draw from, positives not counted.
        margin: A passage is left out if its score is above `(1 - margin)` times that of the query's worst positive. 0
            leaves out only what scores above it.
        seed: Of the draw; the same input gives the same output.
        max_batch_tokens: As in `M3Model.encode`.
        max_length: Most tokens of a passage that are read; the model's own if None.
        show_progress: Show bars.

    Raises:
        ValueError: A number is out of its range.
        DatasetError: `questions` is damaged; the message names the line.
        MissingHeadError: The mode needs a head that the model lacks.
        MilvusError: Milvus refused a request.
        TrivecError: `output` cannot be written.
    """
    first, last = ranks
    if not 1 <= first <= last:
        raise ValueError(f"ranks={ranks} must be two ranks from 1 up, the first not above the last")
    if negatives < 1:
        raise ValueError(f"negatives={negatives} must be at least 1")
    if not 0 <= margin < 1:
        raise ValueError(f"margin={margin} must be at least 0 and below 1")
    check_mode(mode, PairMode)
    check_writable(Path(output))
    # One pass over the whole input before anything is computed: a damaged line is told now, not hours into the run.
    listed: dict[str, None] = {}
    total = 0
    for question in _questions(Path(questions)):
        listed.update(dict.fromkeys((*question.positives, *question.negatives)))
        total += 1
    rule = _Rule(negatives, first, last, margin, seed)
    tally: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="trivec-") as folder,
        replacing(Path(output)) as part,
        part.open("w", encoding="utf-8") as file,
        M3Collection("passages", model, uri=str(Path(folder) / "passages.db")) as collection,
    ):
        texts = list(listed) if corpus is None else corpus
        collection.add(texts, max_batch_tokens=max_batch_tokens, max_length=max_length, show_progress=show_progress)
        scorer = _Scorer(model, mode, max_length)
        left = _questions(Path(questions))
        with progress_bar(total, "Mining", "queries", show_progress) as bar:
            while batch := list(islice(left, _QUERIES_AT_ONCE)):
                for row in _mined_rows(collection, scorer, batch, rule, tally):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                bar.update(len(batch))
        scorer.warn()
    return Mined(tally["queries"], tally["negatives"], tally["short"], tally["too_close"])


@dataclass(frozen=True)
class _Rule:
    """Which hits may become negatives."""

    count: int
    first: int
    last: int
    margin: float
    seed: int

    def ceiling(self, positive_scores: Sequence[float]) -> float:
        """The highest score that a negative may have, beside positives with these scores."""
        worst = min(positive_scores)
        return worst - self.margin * abs(worst)  # for a score above 0 this is (1 - margin) times it

    def draw(self, hits: Sequence[Hit], number: int) -> list[Hit]:
        """Some of the hits, in their order; `number` is the query's, so that its draw depends on no other query."""
        if len(hits) <= self.count:
            return list(hits)
        chosen = np.random.default_rng((self.seed, number)).choice(len(hits), self.count, replace=False)
        return [hits[i] for i in sorted(chosen.tolist())]


class _Scorer:
    """Scores pairs by the same rule as the collection's search, for positives that the search did not bring."""

    def __init__(self, model: M3Model, mode: PairMode, max_length: int | None) -> None:
        self.mode = mode
        dense, sparse, _ = model.fusion_weights
        self.ranker = Weighted(dense, sparse) if mode == "hybrid" else None
        self._model = model
        self._max_length = max_length
        self._total = self._truncated = 0

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Score of each (query, passage)."""
        if not pairs:
            return []
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        encoded = encode_without_warning(
            self._model,
            texts,
            max_length=self._max_length,
            return_dense=self.mode != "sparse",
            return_sparse=self.mode != "dense",
            show_progress=False,
        )
        self._total += len(texts)
        self._truncated += encoded.truncated
        by_text = dict(zip(texts, encoded, strict=True))
        return [self._score(by_text[query], by_text[passage]) for query, passage in pairs]

    def warn(self) -> None:
        """Warn, once for all calls, if texts were cut."""
        warn_of_truncation(self._truncated, self._total, self._model.checked_length(self._max_length))

    def _score(self, query: M3Embedding, passage: M3Embedding) -> float:
        dense = sparse = 0.0
        if query.dense is not None and passage.dense is not None:
            dense = dense_score(query.dense, passage.dense)
        if query.sparse is not None and passage.sparse is not None:
            sparse = lexical_score(query.sparse, passage.sparse)
        return dense + sparse if self.ranker is None else self.ranker.score(Candidate(dense, sparse))


def _mined_rows(
    collection: M3Collection, scorer: _Scorer, batch: Sequence[_Question], rule: _Rule, tally: Counter[str]
) -> Iterator[dict[str, Any]]:
    depth = rule.last + max(len(question.positives) for question in batch) + 1  # positives and the query itself
    found = collection.search(
        [question.query for question in batch],
        scorer.mode,
        limit=depth,
        ranker=scorer.ranker,
        candidates=depth,
    )
    scored = [{hit.id: hit.score for hit in hits} for hits in found]
    missing = [
        (question.query, text)
        for question, scores in zip(batch, scored, strict=True)
        for text in question.positives
        if content_id(text) not in scores
    ]
    computed = dict(zip(missing, scorer.scores(missing), strict=True))
    for question, hits, scores in zip(batch, found, scored, strict=True):
        ceiling = rule.ceiling(
            [
                scores[key] if (key := content_id(text)) in scores else computed[question.query, text]
                for text in question.positives
            ]
        )
        known = {_plain(text) for text in (question.query, *question.positives)}
        ranked = [hit for hit in hits if _plain(hit.text) not in known][rule.first - 1 : rule.last]
        listed = {_plain(text) for text in question.negatives}
        far = [hit for hit in ranked if hit.score <= ceiling]
        drawn = rule.draw([hit for hit in far if _plain(hit.text) not in listed], tally["queries"])
        tally["queries"] += 1
        tally["negatives"] += len(drawn)
        tally["short"] += len(drawn) < rule.count
        tally["too_close"] += len(ranked) - len(far)
        yield {
            "query": question.query,
            "pos": question.positives,
            "neg": [*question.negatives, *(hit.text for hit in drawn)],
            **question.other,
        }


def _questions(path: Path) -> Iterator[_Question]:
    """The queries of a file; of `queries_x`, which are in other languages than the row says, none are taken."""
    for number, row in read_rows(path):
        positives = passages(path, number, row, "pos", required=True)
        negatives = passages(path, number, row, "neg")
        other = {key: value for key, value in row.items() if key not in _REPLACED}
        for query in passages(path, number, row, "queries" if "queries" in row else "query", required=True):
            yield _Question(query, positives, negatives, other)


# Scores in the input belong to its own lists of texts, which change.
_REPLACED = ("query", "queries", "queries_x", "pos", "neg", "pos_scores", "neg_scores")


def _plain(text: str) -> str:
    """A text without what sets copies of it apart: case and white space."""
    return " ".join(text.split()).casefold()
