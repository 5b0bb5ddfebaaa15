"""Retrieval data sets: documents, queries and relevance judgements, read from the layouts in which they are published.

`load_datasets` recognises the layout of a path by the files it finds:

- **BEIR**: a folder with `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`;
- **MIRACL**: a folder with `topics/` and `qrels/` for one language, its passages in `docs-*.jsonl` beside them, in a
  folder `corpus/`, or in the sibling folder that carries the corpus's published name;
- **MLDR**: a folder with `corpus.jsonl` and `<split>.jsonl`, judgements inside the rows;
- **pairs**: a `.jsonl` file whose rows hold a query and its positive texts: `query` (or `queries`) and `pos`, with
  `neg` texts as distractors; every language found in `lang` is a data set of its own, and so is every language of
  `queries_x` (the same questions translated);
- a folder of any of these.

Files may be gzip-compressed (`.jsonl.gz`). This module knows nothing of models or metrics.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivec.errors import TrivecError
from trivec.support.jsonl import json_object

Qrels = dict[str, dict[str, int]]


class DatasetError(TrivecError):
    """A data set's file is missing, damaged or not in a known layout; the message names the file and the line."""


@dataclass(frozen=True, repr=False)
class RetrievalDataset:
    """Queries, the documents to be found, and which documents answer which query.

    Args:
        name: What tables and files call it.
        documents: Text of each document by its id; a title stands before the text, with a space between.
        queries: Text of each query by its id.
        qrels: Grade of each judged document by query id and document id; 0 is "judged, not relevant". Queries without
            a relevant document are dropped, since no ranking of them can be right or wrong.

    Raises:
        DatasetError: There is no document or no judged query left, or a judgement names a document that is not there.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: Qrels

    def __post_init__(self) -> None:
        if not self.documents:
            raise DatasetError(f"{self.name}: no documents")
        judged = {query: grades for query, grades in self.qrels.items() if any(grade > 0 for grade in grades.values())}
        for query, grades in judged.items():
            if query not in self.queries:
                raise DatasetError(f"{self.name}: the judgements name query {query!r}, which is not among the queries")
            for document, grade in grades.items():
                if grade > 0 and document not in self.documents:
                    raise DatasetError(
                        f"{self.name}: document {document!r}, relevant to query {query!r}, is not in the corpus"
                    )
        if not judged:
            raise DatasetError(f"{self.name}: no query has a relevant document")
        object.__setattr__(self, "qrels", judged)
        object.__setattr__(self, "queries", {query: text for query, text in self.queries.items() if query in judged})

    def __repr__(self) -> str:
        return f"RetrievalDataset({self.name!r}, {len(self.queries):,} queries, {len(self.documents):,} documents)"


def load_datasets(path: str | Path, *, split: str | None = None) -> list[RetrievalDataset]:
    """Read every data set at a path, whatever its layout (see the module's text).

    Args:
        path: A folder, or a `.jsonl` file of pairs.
        split: Which judgements to use where the layout has several ("test", "dev", "train"); None takes "test" where
            it exists and "dev" otherwise. Files of pairs have no splits.

    Returns:
        At least one data set, in the order of their names within a folder.

    Raises:
        DatasetError: Nothing is there, the layout is not known, or a file is damaged (with its line).
    """
    path = Path(path)
    if path.is_file():
        return _read_pairs(path)
    if not path.is_dir():
        raise DatasetError(f"{path}: no such file or folder")
    if (path / "topics").is_dir():
        return [_read_miracl(path, split)]
    if _jsonl(path, "corpus") and (path / "qrels").is_dir():
        return [_read_beir(path, split)]
    if _jsonl(path, "corpus"):
        return [_read_mldr(path, split)]
    children = [
        child
        for child in sorted(path.iterdir())
        if not child.name.startswith(".")
        and ((child.is_dir() and _holds_judgements(child)) or child.name.endswith((".jsonl", ".jsonl.gz")))
    ]
    if not children:
        raise DatasetError(
            f"{path}: not a data set: expected corpus.jsonl with qrels/ (BEIR), topics/ with qrels/ (MIRACL), "
            "corpus.jsonl with test.jsonl or dev.jsonl (MLDR), or .jsonl files of query/pos pairs"
        )
    return [dataset for child in children for dataset in load_datasets(child, split=split)]


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number (from 1) and the object of each line of a JSON-lines file; empty lines are skipped.

    Raises:
        DatasetError: The file cannot be read, or a line is not a JSON object in UTF-8.
    """
    path = Path(path)
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, json_object(line)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path}:{max(number, 1)}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error


def passages(path: Path, number: int, row: dict[str, Any], key: str, *, required: bool = False) -> list[str]:
    """Return the texts under `key` of a row of pairs: a list of strings, or one string.

    Raises:
        DatasetError: The value is something else, or it is missing or empty though required.
    """
    value = row.get(key)
    texts = [value] if isinstance(value, str) else ([] if value is None else value)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"{path}:{number}: {key!r} must be a text or a list of texts, found {value!r:.80}")
    if required and not any(text.strip() for text in texts):
        raise DatasetError(f"{path}:{number}: {key!r} is missing or empty")
    return texts


def queries_by_language(path: Path, number: int, row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (language, query) for every query of a row of pairs: `query` or `queries` (in `lang`), and `queries_x`.

    Raises:
        DatasetError: The row has no query, or one that is not a text.
    """
    key = "queries" if "queries" in row else "query"
    language = str(row.get("lang", ""))
    found = [(language, query) for query in passages(path, number, row, key, required=True)]
    translated = row.get("queries_x", [])
    if not isinstance(translated, list):
        raise DatasetError(f"{path}:{number}: 'queries_x' must be a list of [language, query]")
    for item in translated:
        if not isinstance(item, list) or len(item) != 2 or not all(isinstance(part, str) for part in item):
            raise DatasetError(f"{path}:{number}: 'queries_x' must hold [language, query], found {item!r:.80}")
        found.append((item[0], item[1]))
    return found


def _read_pairs(path: Path) -> list[RetrievalDataset]:
    """Equal texts are one document and equal questions one query, so that a duplicate is never a wrong answer."""
    documents: dict[str, dict[str, str]] = {}  # language -> text -> id
    queries: dict[str, dict[str, str]] = {}
    qrels: dict[str, Qrels] = {}
    for number, row in read_rows(path):
        positives = passages(path, number, row, "pos", required=True)
        negatives = passages(path, number, row, "neg")
        for language, query in queries_by_language(path, number, row):
            known = documents.setdefault(language, {})
            for rank, text in enumerate([*positives, *negatives]):
                known.setdefault(text, f"d{number}.{rank}")
            asked = queries.setdefault(language, {})
            query_id = asked.setdefault(query, f"q{number}.{len(asked)}")
            grades = qrels.setdefault(language, {}).setdefault(query_id, {})
            grades.update({known[text]: 1 for text in positives})
            for text in negatives:
                grades.setdefault(known[text], 0)
    if not queries:
        raise DatasetError(f"{path}: no pairs in it")
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return [
        RetrievalDataset(
            name=stem if len(queries) == 1 else f"{stem}/{language or 'unknown'}",
            documents={document: text for text, document in documents[language].items()},
            queries={query: text for text, query in queries[language].items()},
            qrels=qrels[language],
        )
        for language in sorted(queries)
    ]


def _read_beir(folder: Path, split: str | None) -> RetrievalDataset:
    qrels_file = _split_file(folder / "qrels", split, ".tsv", folder)
    queries_file = _required_jsonl(folder, "queries")
    qrels: Qrels = {}
    for number, cells in _table(qrels_file, columns=3):
        if number == 1 and cells[0] == "query-id":
            continue
        qrels.setdefault(cells[0], {})[cells[1]] = _grade(qrels_file, number, cells[2])
    return RetrievalDataset(
        name=folder.name,
        documents=_read_corpus([_required_jsonl(folder, "corpus")], "_id"),
        queries={
            _text(queries_file, number, row, "_id"): _text(queries_file, number, row, "text")
            for number, row in read_rows(queries_file)
        },
        qrels=qrels,
    )


def _read_miracl(folder: Path, split: str | None) -> RetrievalDataset:
    qrels_file = _split_file(folder / "qrels", split, ".tsv", folder)
    topics_file = folder / "topics" / qrels_file.name.replace("qrels.", "topics.", 1)
    corpus = [folder, folder / "corpus", folder.parent / folder.name.replace("miracl-", "miracl-corpus-", 1)]
    parts = next((parts for place in corpus if (parts := sorted(place.glob("docs-*.jsonl*")))), None)
    if parts is None:
        raise DatasetError(f"{folder}: no docs-*.jsonl(.gz) here, in {corpus[1].name}/ or in {corpus[2]}")
    qrels: Qrels = {}
    for number, cells in _table(qrels_file, columns=4):  # TREC's columns: query, iteration, document, grade
        qrels.setdefault(cells[0], {})[cells[2]] = _grade(qrels_file, number, cells[3])
    return RetrievalDataset(
        name=folder.name,
        documents=_read_corpus(parts, "docid"),
        queries={cells[0]: cells[1] for _, cells in _table(topics_file, columns=2)},
        qrels=qrels,
    )


def _read_mldr(folder: Path, split: str | None) -> RetrievalDataset:
    path = _split_file(folder, split, ".jsonl", folder)
    queries: dict[str, str] = {}
    qrels: Qrels = {}
    for number, row in read_rows(path):
        query_id = _text(path, number, row, "query_id")
        queries[query_id] = _text(path, number, row, "query")
        for key, grade in (("positive_passages", 1), ("negative_passages", 0)):
            judged = row.get(key, [])
            if not isinstance(judged, list) or not all(isinstance(item, dict) for item in judged):
                raise DatasetError(f"{path}:{number}: {key!r} must be a list of objects")
            for item in judged:
                qrels.setdefault(query_id, {})[_text(path, number, item, "docid")] = grade
    return RetrievalDataset(
        name=folder.name,
        documents=_read_corpus([_required_jsonl(folder, "corpus")], "docid"),
        queries=queries,
        qrels=qrels,
    )


def _read_corpus(parts: list[Path], id_key: str) -> dict[str, str]:
    documents: dict[str, str] = {}
    for path in parts:
        for number, row in read_rows(path):
            document = _text(path, number, row, id_key)
            if document in documents:
                raise DatasetError(f"{path}:{number}: document {document!r} occurs twice")
            title = row.get("title")
            text = _text(path, number, row, "text")
            documents[document] = f"{title} {text}" if isinstance(title, str) and title else text
    return documents


def _text(path: Path, number: int, row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):  # ids are numbers in some published files
        return str(value)
    if not isinstance(value, str):
        raise DatasetError(f"{path}:{number}: {key!r} must be a text, found {value!r:.80}")
    return value


def _table(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != columns:
                    raise DatasetError(
                        f"{path}:{number}: expected {columns} columns with tabs between, found {len(cells)}"
                    )
                yield number, cells
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error


def _grade(path: Path, number: int, cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise DatasetError(f"{path}:{number}: the grade must be a whole number, found {cell!r}") from None


def _jsonl(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in (".jsonl", ".jsonl.gz") if (path := folder / f"{stem}{suffix}").is_file()), None)


def _required_jsonl(folder: Path, stem: str) -> Path:
    path = _jsonl(folder, stem)
    if path is None:
        raise DatasetError(f"{folder}: {stem}.jsonl is missing")
    return path


def _holds_judgements(folder: Path) -> bool:
    return (folder / "topics").is_dir() or _jsonl(folder, "corpus") is not None


def _split_file(folder: Path, split: str | None, suffix: str, dataset: Path) -> Path:
    """The file of a split: its stem is the split's name, or ends in "-<split>" as MIRACL's do."""
    found = {
        path.name.removesuffix(".gz").removesuffix(suffix).rsplit("-", 1)[-1]: path
        for path in sorted(folder.glob("*"))
        if path.name.removesuffix(".gz").endswith(suffix) and not path.name.startswith(("corpus.", "docs-"))
    }
    for wanted in [split] if split else ["test", "dev"]:
        if wanted in found:
            return found[wanted]
    named = f"split {split!r}" if split else "split test or dev"
    raise DatasetError(f"{dataset}: no {named}; found: {', '.join(sorted(found)) or 'none'}")
