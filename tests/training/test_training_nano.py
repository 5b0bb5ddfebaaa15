"""The bundled model: whole, small, and what its card says it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

from trivec import M3Model

PARAGRAPHS = {
    "bridge": "The old bridge across the river was built of stone in 1867 and carries trains to the harbour.",
    "bread": "Bakers let the dough rest over night before they put the bread into the hot oven.",
    "moon": "Astronauts walked on the Moon in 1969 and brought rocks back to Earth.",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with as_file(files("trivec") / "data" / "nano") as path:
        yield path


@pytest.fixture(scope="module")
def nano(folder: Path) -> Iterator[M3Model]:
    with M3Model.load(folder, precision="fp32") as model:
        yield model


def test_nano_has_bge_m3s_files_and_takes_at_most_20_megabytes(folder: Path):
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors", "sparse_linear.pt", "colbert_linear.pt"} <= names
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20_000_000


def test_nanos_card_names_it_a_demonstration_and_its_sources(folder: Path):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "not BGE-M3" in card
    for word in ("XQuAD", "Tatoeba", "NTREX", "CC BY-SA 4.0", "--seed"):
        assert word in card


def test_nanos_fusion_weights_are_stored(folder: Path):
    weights = json.loads((folder / "config.json").read_text(encoding="utf-8"))["trivec"]["fusion_weights"]
    assert len(weights) == 3
    assert all(weight >= 0 for weight in weights)
    assert sum(weights) > 0


def test_nano_encodes_with_all_three_heads(nano: M3Model):
    embeddings = nano.encode(["Where is the bridge?"], return_colbert_vecs=True, show_progress=False)
    assert np.linalg.norm(embeddings.dense[0]) == pytest.approx(1, abs=1e-4)
    assert embeddings.sparse.nnz > 0
    assert embeddings.colbert_vecs[0].shape[1] == embeddings.dense.shape[1]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When was the bridge built?", "bridge"),
        ("Who walked on the Moon?", "moon"),
        ("¿Quién caminó sobre la Luna?", "moon"),
        ("桥是什么时候建造的？", "bridge"),
        ("Кто ходил по Луне?", "moon"),
    ],
)
def test_nano_finds_english_paragraphs_for_questions_in_several_languages(nano: M3Model, question: str, answer: str):
    names = list(PARAGRAPHS)
    passages = nano.encode(list(PARAGRAPHS.values()), show_progress=False)
    query = nano.encode([question], show_progress=False)
    assert names[int(np.argmax(passages.dense @ query.dense[0]))] == answer


def test_nanos_lexical_weights_rise_with_a_words_count_and_fall_with_the_length_of_the_text(nano: M3Model):
    rest = " ".join(PARAGRAPHS.values())
    texts = {
        "once": f"From here one sees a church. {rest}",
        "thrice": f"From the church one sees a church and a church. {rest}",
        "in a long text": f"From here one sees a church. {rest} {rest} {rest} {rest} {rest}",
    }
    weight = {name: dict(nano.token_weights(text))["church"] for name, text in texts.items()}
    assert weight["thrice"] > 1.15 * weight["once"]
    assert weight["in a long text"] < 0.8 * weight["once"]


def test_in_a_question_nano_weighs_what_is_asked_about_most(nano: M3Model):
    weights = dict(nano.token_weights("What is the name of the ridge?"))
    assert weights["ridge"] > 2 * max(weights.get(word, 0.0) for word in ("What", "is", "the", "of"))
