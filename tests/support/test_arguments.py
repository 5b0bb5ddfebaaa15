"""What users pass is checked at the door: nothing is encoded that was not meant, and the error names the argument."""

from __future__ import annotations

import os
from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from trivec import BGEM3EmbeddingFunction, M3Model

ROWS = {"id": ["1", "2"], "text": ["a small boat", "a lake"]}


class Table:
    """As of polars or datasets, which are not here for tests: the columns' names, and rows to go through."""

    def __init__(self, names: list[str]) -> None:
        self.column_names = names

    def __iter__(self) -> Any:
        return iter([dict.fromkeys(self.column_names, "a")])


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (pd.DataFrame(ROWS), r'a DataFrame: name the column, as texts\["text"\]'),
        (pd.DataFrame({"body": ["a"], "n": [1]}), r'name the column, as texts\["body"\]'),
        (pd.DataFrame({0: ["a"]}), r'name the column, as texts\["text"\]'),
        (pa.table(ROWS), r'a Table: name the column, as texts\["text"\]'),
        (pa.RecordBatch.from_pydict(ROWS), r"a RecordBatch: name the column"),
        (Table(["title", "text"]), r'a Table: name the column, as texts\["text"\]'),
        (ROWS, r'a dict: name what is meant, as texts\["text"\] or list\(texts.values\(\)\)'),
        (UserDict(ROWS), "a UserDict: name what is meant"),
        (os.environ, "a _Environ: name what is meant"),
        ({"a", "b"}, r"a set, which has no order .* sorted\(texts\)"),
        (frozenset("ab"), "a frozenset, which has no order"),
        (b"bytes", "a bare bytes"),
        (bytearray(b"bytes"), "a bare bytearray"),
        (np.array("a"), "got ndarray"),
        ([ROWS], r"texts\[0\] is .* \(dict\), expected a str"),
        (np.array([["a", "b"]]), r"texts\[0\] is .* \(ndarray\), expected a str"),
        (pa.array(["a", None]), r"texts\[1\] is None \(NoneType\)"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts: Any, told: str, tiny_model: M3Model) -> None:
    for encode in (tiny_model.encode, tiny_model.encode_stream):
        with pytest.raises(TypeError, match=told):
            list(encode(texts))


def test_every_kind_of_column_is_taken(tiny_model: M3Model) -> None:
    wanted = tiny_model.encode(ROWS["text"])
    frame = pd.DataFrame(ROWS)
    columns = {
        "Series": frame["text"],
        "string Series": frame["text"].astype("string"),
        "arrow Series": frame["text"].astype(pd.ArrowDtype(pa.string())),
        "Index": pd.Index(ROWS["text"]),
        "numpy": np.array(ROWS["text"]),
        "numpy objects": np.array(ROWS["text"], object),
        "arrow": pa.array(ROWS["text"]),
        "large arrow": pa.array(ROWS["text"], pa.large_string()),
        "arrow column": pa.table(ROWS)["text"],
        "arrow dictionary": pa.array(ROWS["text"]).dictionary_encode(),
        "generator": (text for text in ROWS["text"]),
        "values": dict(enumerate(ROWS["text"])).values(),
        "keys": dict.fromkeys(ROWS["text"]).keys(),
        "subclass": [np.str_(text) for text in ROWS["text"]],
    }
    if hasattr(np.dtypes, "StringDType"):
        columns["numpy strings"] = np.array(ROWS["text"], np.dtypes.StringDType())
    for kind, column in columns.items():
        assert np.array_equal(tiny_model.encode(column).dense, wanted.dense), kind


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ("ab", r"a bare str: write \[pair\]"),
        (pd.DataFrame({"query": ["a"], "passage": ["b"]}), "a DataFrame: name the column"),
        ({"a": "b", "c": "d"}, "a dict: name what is meant"),
        ({("a", "b")}, "a set, which has no order"),
        (None, "got NoneType"),
    ],
)
def test_scores_are_of_pairs_only(pairs: Any, told: str, tiny_model: M3Model) -> None:
    with pytest.raises(TypeError, match=told):
        tiny_model.compute_score(pairs)


NO_NUMBERS = [None, "3", "cpu", 1.5, 3.0, True, [3], np.float32(3)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_numbers_are_whole_numbers(value: Any, tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    texts = ["a"]
    for named, call in {
        "batch_size": lambda: BGEM3EmbeddingFunction(tiny_checkpoint, batch_size=value),
    }.items():
        with pytest.raises(TypeError, match=f"^{named}="):
            call()
    if value is None:  # then it is the model's own
        return
    for named, call in {
        "max_batch_tokens": lambda: tiny_model.encode(texts, max_batch_tokens=value),
        "max_batch_tokens=": lambda: tiny_model.encode_stream(texts, max_batch_tokens=value),
        "max_batch_tokens==": lambda: tiny_model.compute_score(("a", "b"), max_batch_tokens=value),
        "max_length": lambda: tiny_model.encode(texts, max_length=value),
        "num_threads": lambda: M3Model.load(tiny_checkpoint, num_threads=value),
        "query_max_length": lambda: BGEM3EmbeddingFunction(tiny_checkpoint, query_max_length=value),
        "passage_max_length": lambda: BGEM3EmbeddingFunction(tiny_checkpoint, passage_max_length=value),
    }.items():
        with pytest.raises(TypeError, match=f"^{named.rstrip('=')}=.* must be a whole number"):
            call()


def test_numbers_of_numpy_are_numbers(tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    for number in (np.int64(8), np.uint8(8), np.array(8)):
        assert len(tiny_model.encode(["a boat"], max_batch_tokens=number, max_length=number)) == 1
        with BGEM3EmbeddingFunction(tiny_checkpoint, batch_size=number, max_length=number) as function:
            assert function.model.max_length == 8


def test_numbers_out_of_range(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="query_max_length=1 must lie between 2 and the model's limit of 1024"):
        BGEM3EmbeddingFunction(tiny_checkpoint, query_max_length=1)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        BGEM3EmbeddingFunction(tiny_checkpoint, batch_size=0)


@pytest.mark.parametrize("value", ["False", "no", None, 2, 0.5, []], ids=repr)
def test_switches_are_true_or_false(value: Any, tiny_checkpoint: Path, tiny_model: M3Model) -> None:
    for name in ("return_dense", "return_sparse", "return_colbert_vecs", "normalize", "show_progress"):
        with pytest.raises(TypeError, match=f"^{name}=.* must be True or False"):
            tiny_model.encode(["a"], **{name: value})
    for name in ("use_cache", "local_files_only"):
        with pytest.raises(TypeError, match=f"^{name}=.* must be True or False"):
            M3Model.load(tiny_checkpoint, **{name: value})
    for name in ("use_fp16", "normalize_embeddings", "return_sparse", "show_progress"):
        with pytest.raises(TypeError, match=f"^{name}=.* must be True or False"):
            BGEM3EmbeddingFunction(tiny_checkpoint, **{name: value})


def test_switches_of_numpy_and_numbers(tiny_model: M3Model) -> None:
    assert tiny_model.encode(["a"], return_sparse=np.bool_(False)).sparse is None
    assert tiny_model.encode(["a"], return_sparse=0).sparse is None


@pytest.mark.parametrize("name", [None, "", 3, b"nano"])
def test_a_model_has_a_name(name: Any) -> None:
    for load in (M3Model.load, BGEM3EmbeddingFunction):
        with pytest.raises(TypeError, match="must be a folder, a hub id or a URL"):
            load(name)
