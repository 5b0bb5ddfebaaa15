"""Every layout parses into the same kind of data set, and a damaged file is named with its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trivec.evaluation import DatasetError, RetrievalDataset, load_datasets

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def write_beir(folder: Path) -> Path:
    write_rows(
        folder / "corpus.jsonl",
        [
            {"_id": "a", "title": "Turing", "text": "was born in London."},
            {"_id": "b", "title": "", "text": "AI is a discipline."},
        ],
    )
    write_rows(
        folder / "queries.jsonl", [{"_id": "1", "text": "Where was he born?"}, {"_id": "2", "text": "What is AI?"}]
    )
    (folder / "qrels").mkdir()
    header = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "test.tsv").write_text(f"{header}1\ta\t2\n1\tb\t0\n", encoding="utf-8")
    (folder / "qrels" / "dev.tsv").write_text(f"{header}2\tb\t1\n", encoding="utf-8")
    return folder


def test_beir_layout(tmp_path: Path):
    (dataset,) = load_datasets(write_beir(tmp_path / "toy"))
    assert dataset.name == "toy"
    assert dataset.documents == {"a": "Turing was born in London.", "b": "AI is a discipline."}
    assert dataset.queries == {"1": "Where was he born?"}  # the other one is not judged in this split
    assert dataset.qrels == {"1": {"a": 2, "b": 0}}
    (dev,) = load_datasets(tmp_path / "toy", split="dev")
    assert dev.qrels == {"2": {"b": 1}}


@pytest.mark.parametrize("corpus", ["miracl-v1.0-sw", "miracl-v1.0-sw/corpus", "miracl-corpus-v1.0-sw"])
def test_miracl_layout(tmp_path: Path, corpus: str):
    folder = tmp_path / "miracl-v1.0-sw"
    (folder / "topics").mkdir(parents=True)
    (folder / "qrels").mkdir()
    (folder / "topics" / "topics.miracl-v1.0-sw-dev.tsv").write_text("7\tMti ni nini?\n", encoding="utf-8")
    (folder / "qrels" / "qrels.miracl-v1.0-sw-dev.tsv").write_text("7\tQ0\t39#0\t1\n7\tQ0\t39#1\t0\n", encoding="utf-8")
    write_rows(tmp_path / corpus / "docs-0.jsonl.gz", [{"docid": "39#0", "title": "Mti", "text": "ni mmea."}])
    write_rows(tmp_path / corpus / "docs-1.jsonl.gz", [{"docid": "39#1", "title": "Jiwe", "text": "ni gumu."}])
    (dataset,) = load_datasets(folder)
    assert dataset.name == "miracl-v1.0-sw"
    assert dataset.documents == {"39#0": "Mti ni mmea.", "39#1": "Jiwe ni gumu."}
    assert dataset.queries == {"7": "Mti ni nini?"}
    assert dataset.qrels == {"7": {"39#0": 1, "39#1": 0}}


def test_mldr_layout_and_folder_of_languages(tmp_path: Path):
    for language in ("de", "en"):
        folder = tmp_path / "mldr" / f"mldr-v1.0-{language}"
        documents = [{"docid": f"doc-{language}-{i}", "text": f"text {i}"} for i in range(2)]
        write_rows(folder / "corpus.jsonl.gz", documents)
        row = {
            "query_id": f"q-{language}-1",
            "query": "which?",
            "positive_passages": documents[:1],
            "negative_passages": documents[1:],
        }
        write_rows(folder / "test.jsonl.gz", [row])
    german, english = load_datasets(tmp_path / "mldr")
    assert (german.name, english.name) == ("mldr-v1.0-de", "mldr-v1.0-en")
    assert german.qrels == {"q-de-1": {"doc-de-0": 1, "doc-de-1": 0}}
    assert german.documents == {"doc-de-0": "text 0", "doc-de-1": "text 1"}


def test_pairs_count_equal_texts_and_questions_once(tmp_path: Path):
    rows = [
        {"query": "who?", "pos": ["Turing", "A. Turing"], "neg": ["Lovelace"]},
        {"query": "who?", "pos": "Lovelace"},
        {"query": "where?", "pos": ["Turing"]},
    ]
    (dataset,) = load_datasets(write_rows(tmp_path / "pairs.jsonl", rows))
    text = dataset.documents
    assert sorted(text.values()) == ["A. Turing", "Lovelace", "Turing"]
    found = {
        dataset.queries[query]: {text[document]: grade for document, grade in grades.items()}
        for query, grades in dataset.qrels.items()
    }
    assert found == {"who?": {"Turing": 1, "A. Turing": 1, "Lovelace": 1}, "where?": {"Turing": 1}}


def test_pairs_make_a_data_set_of_each_language(tmp_path: Path):
    rows = [
        {"queries": ["Where?", "When?"], "pos": "London 1912", "lang": "en", "doc": "T", "queries_x": [["de", "Wo?"]]},
        {"query": "Qui ?", "pos": "Turing", "lang": "fr"},
    ]
    german, english, french = load_datasets(write_rows(tmp_path / "mixed.jsonl", rows))
    assert [one.name for one in (german, english, french)] == ["mixed/de", "mixed/en", "mixed/fr"]
    assert list(english.queries.values()) == ["Where?", "When?"]
    assert list(german.queries.values()) == ["Wo?"]
    assert list(german.documents.values()) == ["London 1912"]
    assert list(french.documents.values()) == ["Turing"]


def test_shared_training_files_parse():
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the training data in ../shared/data, which is not on this machine")
    (german,) = load_datasets(SHARED_DATA / "qa_xquad_de.jsonl")
    assert len(german.documents) == 180
    assert len(german.queries) > 800
    languages = load_datasets(SHARED_DATA / "par_indian.jsonl")
    assert {dataset.name for dataset in languages} == {f"par_indian/{code}" for code in ("bn", "hi", "ta", "te")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"query": "a", "pos": ["b"]}\n{"query": ', "pairs.jsonl:2: not JSON: Expecting value at column 11"),
        (b'{"query": "a", "pos": ["b"]}\n["a", "b"]\n', "pairs.jsonl:2: a list, not a JSON object"),
        (b'{"query": "a", "pos": ["b"]}\n\n{"query": "a"}\n', "pairs.jsonl:3: 'pos' is missing or empty"),
        (b'{"pos": ["b"]}\n', "pairs.jsonl:1: 'query' is missing or empty"),
        (b'{"query": "a", "pos": ["b", 3]}\n', "pairs.jsonl:1: 'pos' must be a text or a list of texts"),
        (b'{"query": "a", "pos": "b"}\n{"query": "\xff", "pos": "b"}\n', "pairs.jsonl:2: byte 0xff is not UTF-8"),
        (b'{"query": "a", "pos": "b", "queries_x": [["de"]]}\n', "pairs.jsonl:1: 'queries_x' must hold"),
        (b"\n", "pairs.jsonl: no pairs in it"),
        (b'{"query": ' + b"[" * 100_000, "pairs.jsonl:1: lists or objects are nested too deeply"),
        (b'{"query": "a", "query": "b", "pos": "c"}', "pairs.jsonl:1: it names the field 'query' twice"),
    ],
)
def test_a_damaged_pair_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "pairs.jsonl").write_bytes(content)
    with pytest.raises(DatasetError) as error:
        load_datasets(tmp_path / "pairs.jsonl")
    assert message in str(error.value)


def test_a_truncated_gzip_file_is_an_error_with_its_name(tmp_path: Path):
    path = write_rows(tmp_path / "pairs.jsonl.gz", [{"query": "a" * i, "pos": "b"} for i in range(1, 200)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"pairs\.jsonl\.gz:\d+: "):
        load_datasets(path)


def test_damaged_beir_files_are_named_with_their_line(tmp_path: Path):
    folder = write_beir(tmp_path / "toy")
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\n1\ta\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"test\.tsv:2: expected 3 columns"):
        load_datasets(folder)
    qrels.write_text("1\ta\tyes\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"test\.tsv:1: the grade must be a whole number, found 'yes'"):
        load_datasets(folder)
    qrels.write_text("1\tmissing\t1\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="document 'missing', relevant to query '1', is not in the corpus"):
        load_datasets(folder)
    qrels.write_text("1\ta\t1\n", encoding="utf-8")
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "a", "text": "again"}\n')
    with pytest.raises(DatasetError, match=r"corpus\.jsonl:3: document 'a' occurs twice"):
        load_datasets(folder)


def test_what_is_no_data_set_says_so(tmp_path: Path):
    with pytest.raises(DatasetError, match="no such file or folder"):
        load_datasets(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="not a data set"):
        load_datasets(tmp_path)
    with pytest.raises(DatasetError, match="no split 'train'; found: dev, test"):
        load_datasets(write_beir(tmp_path / "toy"), split="train")
    with pytest.raises(DatasetError, match="no query has a relevant document"):
        RetrievalDataset("empty", {"a": "text"}, {"q": "text"}, {"q": {"a": 0}})
