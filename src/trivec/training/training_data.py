"""Training data in FlagEmbedding's JSONL: `query`, `pos`, `neg`, and a teacher's `pos_scores` and `neg_scores`.

Files are read once to learn where their lines are and how long; texts are read again, by position, when a batch needs
them, so memory does not grow with the data. A batch comes from one file and holds texts of about the same length.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.errors import TrivecError
from trivec.support.jsonl import json_object
from trivec.training.batches import TokenBatch

# Batches are cut from runs of so many batches' lines, sorted by length: near-equal lengths, still shuffled.
BUCKET_BATCHES = 16


class DataError(TrivecError):
    """A line of training data is not what it has to be."""


@dataclass(frozen=True)
class Example:
    """One line: a query, its right passages, listed wrong ones, and a teacher's scores of both (or None)."""

    query: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]
    pos_scores: tuple[float, ...] | None = None
    neg_scores: tuple[float, ...] | None = None


@dataclass(frozen=True)
class JsonlFile:
    """Where the lines of a file are.

    Attributes:
        path: The file.
        offsets: (lines,) int64 position of each line.
        lengths: (lines,) int64 bytes of each line: what batches are sorted by.
        has_scores: Whether the first line has a teacher's scores.
        sha256: Of the whole file, in hexadecimal.
    """

    path: Path
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    has_scores: bool
    sha256: str

    @classmethod
    def open(cls, path: Path) -> JsonlFile:
        """Find the lines of a file and check every one: a damaged line is told now, not hours into the run.

        Raises:
            DataError: The file is not there, has no lines, or one of them is not an example.
        """
        if not path.is_file():
            raise DataError(f"{path} is a folder, not a file" if path.is_dir() else f"{path} does not exist")
        offsets: list[int] = []
        lengths: list[int] = []
        position = 0
        has_scores = False
        digest = hashlib.sha256()
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                digest.update(line)
                if line.strip():
                    example = _parsed(line, f"{path}:{number}")
                    has_scores = has_scores if offsets else example.pos_scores is not None
                    offsets.append(position)
                    lengths.append(len(line))
                position += len(line)
        if not offsets:
            raise DataError(f"{path} has no examples")
        return cls(path, np.array(offsets), np.array(lengths), has_scores, digest.hexdigest())

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, number: int) -> Example:
        """Read one example.

        Raises:
            DataError: The line is no longer an example.
        """
        with self.path.open("rb") as lines:
            lines.seek(int(self.offsets[number]))
            line = lines.readline()
        return _parsed(line, f"{self.path}, byte {self.offsets[number]}")


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The JSONL files among and within some paths, in a fixed order.

    Raises:
        DataError: A path does not exist, or a folder has no .jsonl or .json file.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix in {".jsonl", ".json"})
            if not inside:
                raise DataError(f"{path} has no .jsonl file")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist")
    return list(dict.fromkeys(found))


def count_steps(paths: Sequence[Path], batch_size: int, epochs: float) -> int:
    """Number of batches in so many passes over the data, at least 1.

    Raises:
        DataError: A file cannot be read as training data.
    """
    return max(1, round(epochs * sum(_batches(_count_lines(path), batch_size) for path in find_files(paths))))


class JsonlBatches:
    """Batches of JSONL files, by number: every epoch all lines in a new order, each batch from one file.

    Args:
        files: The files.
        tokenizer: Tokenizer of the model.
        batch_size: Queries of a batch; a file with fewer lines gives one batch of all of them.
        group_size: Passages of a query: a right one and `group_size - 1` listed wrong ones, drawn anew each time.
            Queries with too few wrong ones repeat them; a batch with a query that lists none goes without, its
            other passages being negatives enough.
        query_length: Most tokens of a query, `<s>` and `</s>` included.
        passage_length: Most tokens of a passage.
        seed: Of all that is drawn.

    Raises:
        DataError: A file cannot be read as training data.
        ValueError: A size is too small.
    """

    def __init__(
        self,
        files: Sequence[Path],
        tokenizer: M3Tokenizer,
        *,
        batch_size: int = 32,
        group_size: int = 8,
        query_length: int = 256,
        passage_length: int = 1024,
        seed: int = 0,
    ) -> None:
        if batch_size < 2 or group_size < 1:
            raise ValueError(f"batch_size must be at least 2 and group_size 1, not {batch_size} and {group_size}")
        self.files = [JsonlFile.open(path) for path in files]
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.group_size = group_size
        self.query_length = query_length
        self.passage_length = passage_length
        self.seed = seed
        self.batches_per_epoch = sum(_batches(len(file), batch_size) for file in self.files)
        self._epoch = lru_cache(maxsize=2)(self._order_epoch)

    def batch(self, step: int) -> TokenBatch:
        """The batch of a step.

        Raises:
            DataError: A line is not an example.
        """
        epoch, number = divmod(step, self.batches_per_epoch)
        file_number, lines = self._epoch(epoch)[number]
        file = self.files[file_number]
        rng = np.random.default_rng([self.seed, 1, step])
        examples = [file.read(int(line)) for line in lines]
        listed = all(example.neg for example in examples)
        groups = [_group(example, self.group_size if listed else 1, rng) for example in examples]
        scored = all(score is not None for _, scores in groups for score in scores)
        return TokenBatch(
            source=file.path.name,
            queries=self._tokens([example.query for example in examples], self.query_length),
            passages=self._tokens([text for texts, _ in groups for text in texts], self.passage_length),
            teacher_scores=[[float(s) for s in scores if s is not None] for _, scores in groups] if scored else None,
        )

    def _order_epoch(self, epoch: int) -> list[tuple[int, NDArray[np.int64]]]:
        """(file, lines) of each batch of an epoch: shuffled, sorted by length within buckets, cut, shuffled again."""
        rng = np.random.default_rng([self.seed, 0, epoch])
        batches: list[tuple[int, NDArray[np.int64]]] = []
        for number, file in enumerate(self.files):
            order = rng.permutation(len(file))
            bucket = BUCKET_BATCHES * self.batch_size
            for start in range(0, len(order), bucket):
                lines = order[start : start + bucket]
                order[start : start + bucket] = lines[np.argsort(file.lengths[lines], kind="stable")]
            count = _batches(len(file), self.batch_size)  # the rest is too small a batch; another epoch takes it
            kept = order[rng.permutation(len(order)) < count * self.batch_size] if count > 1 else order
            batches += [(number, lines) for lines in np.array_split(kept[: count * self.batch_size], count)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _tokens(self, texts: list[str], length: int) -> list[list[int]]:
        return [ids.tolist() for ids in self.tokenizer.encode_batch(texts, length).token_ids]


def _batches(lines: int, batch_size: int) -> int:
    return max(1, lines // batch_size)


def _count_lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(bool(line.strip()) for line in lines)


def _group(example: Example, size: int, rng: np.random.Generator) -> tuple[list[str], list[float | None]]:
    """A right passage and `size - 1` wrong ones, with a teacher's score of each where there are any."""
    right = int(rng.integers(len(example.pos)))
    texts = [example.pos[right]]
    scores: list[float | None] = [example.pos_scores[right] if example.pos_scores else None]
    count, wanted = len(example.neg), size - 1
    if wanted:
        chosen = rng.permutation(count)[:wanted] if count >= wanted else rng.integers(count, size=wanted)
        texts += [example.neg[i] for i in chosen]
        scores += [example.neg_scores[i] if example.neg_scores else None for i in chosen]
    return texts, scores


def _parsed(line: bytes, place: str) -> Example:
    try:
        return _example(json_object(line))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{place}: {error}. A line must be a JSON object with `query` (text), `pos` (list of texts) and, if you "
            "like, `neg`, `pos_scores`, `neg_scores`."
        ) from error


def _example(record: dict[str, Any]) -> Example:
    if missing := [name for name in ("query", "pos") if name not in record]:
        raise ValueError(f"it lacks `{missing[0]}`")
    query, pos, neg = record["query"], record["pos"], record.get("neg") or []
    if not isinstance(query, str) or not isinstance(pos, list) or not isinstance(neg, list) or not pos:
        raise TypeError("`query` must be a text, `pos` a list with at least one text, `neg` a list")
    if not all(isinstance(text, str) for text in [*pos, *neg]):
        raise TypeError("`pos` and `neg` must hold texts")
    scores: list[tuple[float, ...] | None] = []
    for name, texts in (("pos_scores", pos), ("neg_scores", neg)):
        values = record.get(name)
        if values is not None and len(values) != len(texts):
            raise ValueError(f"`{name}` has {len(values)} numbers for {len(texts)} texts")
        numbers = None if values is None else tuple(float(value) for value in values)
        if numbers and not all(map(math.isfinite, numbers)):
            raise ValueError(f"`{name}` holds {next(number for number in numbers if not math.isfinite(number))}")
        scores.append(numbers)
    return Example(query, tuple(pos), tuple(neg), *scores)
