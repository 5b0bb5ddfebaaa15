"""A pickled model is its name and how it was loaded."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from trivec import BGEM3EmbeddingFunction, M3Model
from trivec.errors import CheckpointError

TEXTS = ["a small boat", "a lake"]

pytestmark = pytest.mark.filterwarnings("ignore:2 of 2 texts had more")


def test_a_model_travels_as_its_name(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    with M3Model.load(tiny_checkpoint.name, precision="fp32", max_length=5, num_threads=1) as model:
        wanted = model.encode(TEXTS)
        pickled = pickle.dumps(model)
    assert len(pickled) < 1000
    monkeypatch.chdir(tmp_path)  # the other process may work elsewhere
    received = pickle.loads(pickled)
    assert received.max_length == 5
    assert received.precision == "fp32"
    assert np.array_equal(received.encode(TEXTS).dense, wanted.dense)
    assert pickle.loads(pickle.dumps(received.encode))(TEXTS).dense.shape == (2, 32)


def test_tasks_that_bring_the_same_model_share_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, folder)
    pickled = pickle.dumps(M3Model.load(folder, precision="fp32"))
    first = pickle.loads(pickled)
    assert pickle.loads(pickled) is first
    first.close()
    second = pickle.loads(pickled)
    assert second is not first
    assert len(second.encode(TEXTS)) == 2
    os.utime(folder / "config.json", ns=(1, 1))  # as after another training
    assert pickle.loads(pickled) is not second
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="no such folder"):
        pickle.loads(pickled)


def test_an_embedding_function_travels(tiny_checkpoint: Path) -> None:
    function = BGEM3EmbeddingFunction(tiny_checkpoint, return_colbert_vecs=True, query_max_length=4, batch_size=3)
    received = pickle.loads(pickle.dumps(function))
    assert received.batch_size == 3
    wanted, got = function.encode_queries(TEXTS), received.encode_queries(TEXTS)
    assert list(got) == list(wanted)
    assert np.array_equal(got["dense"], wanted["dense"])
    assert [len(vectors) for vectors in got["colbert_vecs"]] == [len(vectors) for vectors in wanted["colbert_vecs"]]


def test_copying_gives_the_model_itself(tiny_model: M3Model) -> None:
    assert copy.copy(tiny_model) is tiny_model
    assert copy.deepcopy({"model": tiny_model})["model"] is tiny_model
