"""A collection knows its model: another one is refused, its own is found, and all can be encoded again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.cli.app import run
from trivec.errors import TrivecError
from trivec.milvus import CollectionMismatchError, M3Collection, MilvusError, schema

TEXTS = [text for language in SENTENCES.values() for text in language][:12]


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory):
    """A checkpoint of the same shape as `tiny_checkpoint` and other weights."""
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "other", seed=7)


@pytest.fixture(scope="module")
def other_model(other_checkpoint):
    with M3Model.load(other_checkpoint, precision="fp32") as model:
        yield model


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "test.db")


def top(collection):
    return [(hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in collection.search(TEXTS[3], "dense", limit=4)]


def test_another_model_is_refused_with_both_names(tiny_model, other_model, tiny_checkpoint, other_checkpoint, uri):
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(TEXTS)
    with pytest.raises(CollectionMismatchError) as refused:
        M3Collection("texts", other_model, uri=uri)
    assert str(tiny_checkpoint) in str(refused.value)
    assert str(other_checkpoint) in str(refused.value)
    assert "\n" not in str(refused.value)
    with M3Collection("texts", tiny_model, uri=uri) as collection:  # the refusal left the file closed and unchanged
        assert collection.search(TEXTS[3], limit=1)[0].text == TEXTS[3]
        assert collection.recorded_model.name == str(tiny_checkpoint)
        assert collection.recorded_model.precision == "fp32"


def test_a_copy_of_the_model_is_the_same_model(tiny_model, tiny_checkpoint, uri, tmp_path):
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(TEXTS)
    with M3Model.load(copy, precision="fp32") as model, M3Collection("texts", model, uri=uri) as collection:
        assert collection.search(TEXTS[3], limit=1)[0].text == TEXTS[3]


def test_handles_opened_before_there_was_a_collection_agree_on_a_model_too(tiny_model, other_model, uri):
    with M3Collection("texts", tiny_model, uri=uri) as one, M3Collection("texts", other_model, uri=uri) as two:
        one.add(TEXTS[:2])
        with pytest.raises(CollectionMismatchError, match="its vectors are those of the model"):
            two.add(TEXTS[2:])
        assert one.count() == 2


def test_encoding_again_changes_the_model_and_keeps_texts_and_metadata(tiny_model, other_model, uri, tmp_path):
    documents = [{"id": str(i), "text": text, "metadata": {"n": i}} for i, text in enumerate(TEXTS)]
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(documents)
    with M3Collection("fresh", other_model, uri=str(tmp_path / "fresh.db")) as fresh:
        fresh.add(documents)
        expected = top(fresh)
    with M3Collection("texts", other_model, uri=uri, reencode=True) as collection:
        assert top(collection) == expected
        assert collection.count() == len(TEXTS)
        assert collection.search(TEXTS[3], limit=1)[0].metadata == {"n": 3}
    with M3Collection("texts", other_model, uri=uri) as collection:
        assert top(collection) == expected
    with pytest.raises(CollectionMismatchError):
        M3Collection("texts", tiny_model, uri=uri)


def test_encoding_again_that_was_interrupted_has_to_be_finished(tiny_model, other_model, uri, monkeypatch):
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(other_model, "_encode", lambda *_args, **_options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            M3Collection("texts", other_model, uri=uri, reencode=True)
    for model in (tiny_model, other_model):
        with pytest.raises(CollectionMismatchError, match="reencode=True"):
            M3Collection("texts", model, uri=uri)
    with M3Collection("texts", other_model, uri=uri, reencode=True) as collection:
        assert collection.search(TEXTS[3], "dense", limit=1)[0].text == TEXTS[3]


def test_without_a_model_the_one_the_collection_names_is_loaded(tiny_model, uri, monkeypatch, tmp_path):
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(TEXTS)
    monkeypatch.chdir(tmp_path)  # a folder is found from wherever
    with M3Collection("texts", uri=uri) as collection:
        assert collection.count() == len(TEXTS)
        assert collection.search(TEXTS[3], limit=1)[0].text == TEXTS[3]
        collection.add(["one more"])
        assert collection.count() == len(TEXTS) + 1
    with M3Collection("new", uri=uri) as collection, pytest.raises(MilvusError, match="give the model"):
        collection.add(["a"])


def test_a_folder_whose_model_has_changed_is_refused(other_model, uri, tmp_path):
    folder = write_random_checkpoint(tmp_path / "mine", seed=3)
    with M3Model.load(folder, precision="fp32") as model, M3Collection("texts", model, uri=uri) as collection:
        collection.add(TEXTS)
    write_random_checkpoint(folder, seed=4)  # trained on, say
    with M3Collection("texts", uri=uri) as collection, pytest.raises(CollectionMismatchError, match="mine"):
        collection.search("a boat")


def old_collection(uri):
    """A collection as trivec 0.1 made it: without a record of its model, with one row."""
    client = MilvusClient(uri)
    schema.create(client, "texts", dense_dim=32)
    schema.load(client, "texts", lite=False)
    client.insert("texts", [{"id": "a", "text": TEXTS[3], "dense": [1.0] + [0.0] * 31, "sparse": {5: 1.0}}])
    client.flush("texts")
    client.close()


def test_a_collection_without_a_record_keeps_working_and_says_so_once(tiny_model, uri):
    old_collection(uri)
    with pytest.warns(UserWarning, match="does not say which model its vectors are of") as warned:
        collection = M3Collection("texts", tiny_model, uri=uri)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    with collection:
        assert [hit.id for hit in collection.search(TEXTS[0], "dense")] == ["a"]
        assert collection.recorded_model is None
    with M3Collection("texts", uri=uri) as nameless, pytest.raises(MilvusError, match="give the model"):
        nameless.search("a boat")
    with M3Collection("texts", tiny_model, uri=uri, reencode=True) as collection:
        assert collection.search(TEXTS[3], "dense")[0].score == pytest.approx(1, abs=1e-4)
        assert collection.recorded_model.fingerprint == tiny_model.fingerprint


def test_the_command_line_takes_the_collections_model_and_refuses_another(
    tiny_checkpoint, other_checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(TEXTS)]
    Path("r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert run(["index", "r.jsonl", "-m", str(tiny_checkpoint)]) == 0
    capsys.readouterr()
    assert run(["search", TEXTS[3], "--json", "-n", "1"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["hits"][0]["text"] == TEXTS[3]
    assert err == ""
    assert run(["index", "r.jsonl", "--resume"]) == 0
    assert "12 unchanged" in capsys.readouterr().err
    for command in (["search", "boat"], ["index", "r.jsonl", "--resume"], ["index", "r.jsonl"]):
        assert run([*command, "-m", str(other_checkpoint)]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert str(tiny_checkpoint) in err
        assert str(other_checkpoint) in err
        assert "unchanged" not in err
    assert run(["index", "r.jsonl", "--resume", "--reencode", "-m", str(other_checkpoint)]) == 0
    capsys.readouterr()
    assert run(["search", TEXTS[3], "--mode", "dense", "--json", "-n", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["score"] == pytest.approx(1, abs=1e-2)


def test_closing_a_collection_closes_the_model_it_loaded_and_no_other(tiny_model, tiny_checkpoint, uri):
    with M3Collection("texts", tiny_model, uri=uri) as collection:
        collection.add(TEXTS)
    with M3Model.load(tiny_checkpoint, precision="fp32") as given:
        with M3Collection("texts", uri=uri) as collection:
            loaded = collection.model
            collection.use_model(given)
            with pytest.raises(TrivecError, match="closed"):
                loaded.encode(["a"])
        assert len(given.encode(["a"])) == 1
