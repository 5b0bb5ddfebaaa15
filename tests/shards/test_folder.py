"""`trivec encode --out FOLDER/`: what is there stays, what differs is refused, what is wrong is found."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from trivec.cli.app import run
from trivec.shards.columns import unpacked

pq = pytest.importorskip("pyarrow.parquet")

DOCUMENTS, SHARD = 50, 8
TEXTS = [f"text number {i} of a boat and {i * 7 % 10} bridges" for i in range(DOCUMENTS)]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    lines = (json.dumps({"id": f"d{i}", "text": text, "n": i}) for i, text in enumerate(TEXTS))
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.fixture
def encode(corpus, tiny_checkpoint, capsys):
    """Encode the corpus into v/ and return the exit code, and what was said as one line."""

    def call(*options, paths=("corpus.jsonl",), out="v/"):
        arguments = [*paths, "--out", out, "-m", tiny_checkpoint, "--shard-rows", SHARD, *options]
        if "--precision" not in options:
            arguments += ["--precision", "fp32"]
        code = run(["encode", *map(str, arguments)])
        return code, " ".join(capsys.readouterr().err.split())

    return call


@pytest.fixture
def check(corpus, capsys):
    def call(folder="v/"):
        code = run(["encode", "--check", folder])
        return code, capsys.readouterr().out.splitlines()

    return call


def shards(folder="v"):
    return sorted(Path(folder).glob("*.parquet"))


def test_the_folder_holds_what_the_model_gives(encode, check, tiny_model):
    code, said = encode("--token-vectors", "fp16")
    assert code == 0
    assert said == f"{DOCUMENTS} documents encoded into 7 shards of {Path.cwd()}/v"
    assert len(shards()) == 7
    table = unpacked(pq.read_table("v"))  # as any reader of Parquet folders: what else is in it is left out
    assert table["id"].to_pylist() == [f"d{i}" for i in range(DOCUMENTS)]
    assert table["text"].to_pylist() == TEXTS
    path = str(Path("corpus.jsonl").absolute())
    assert [json.loads(row) for row in table["metadata"].to_pylist()] == [
        {"path": path, "n": i} for i in range(DOCUMENTS)
    ]
    expected = tiny_model.encode(TEXTS, return_colbert_vecs=True)
    np.testing.assert_allclose(np.array(table["dense"].to_pylist()), expected.dense, atol=1e-5)
    for i, row in enumerate(table["sparse"].to_pylist()):
        assert row["indices"] == expected.sparse[i].indices.tolist()
        np.testing.assert_allclose(row["values"], expected.sparse[i].data, atol=1e-5)
    for vectors, row in zip(expected.colbert_vecs, table["token_vectors"].to_pylist(), strict=True):
        np.testing.assert_allclose(np.array(row, np.float32), vectors, atol=1e-3)
    assert check() == (0, [])


def test_what_is_there_is_left_and_what_is_missing_comes_again_the_same(encode, check):
    assert encode()[0] == 0
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in shards()}
    gone = shards()[2]
    gone.unlink()
    assert check() == (1, [f"{gone.name}: missing"])
    assert encode()[1].startswith("8 documents encoded into 1 shard")
    assert {file: file.read_bytes() for file in shards()} == {file: data for file, (data, _) in before.items()}
    assert all(file.stat().st_mtime_ns == before[file][1] for file in shards() if file != gone)


def test_parts_join_to_the_whole(encode, check):
    for part, documents in (("2/3", 16), ("3/3", 16), ("1/3", 18)):
        assert f"{documents} documents encoded" in encode("--shard", part)[1]
    assert check() == (0, [])


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b"])
def test_parts_that_are_none(encode, part):
    code, said = encode("--shard", part)
    assert code == 2
    assert f"--shard {part} is not written as" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--precision", "int8"], "precision fp32 there, int8 here"),
        (["--token-vectors", "int8"], "token_vectors none there, int8 here"),
        (["--no-sparse"], "sparse yes there, no here"),
        (["--max-length", "16"], "max_length 1024 there, 16 here"),
        (["--mcls", "64"], "mcls none there, 64 here"),
        (["--id-field", "n"], "id_field none there, n here"),
        (["--shard-rows", "9"], "records a shard 8 there, 9 here"),
    ],
)
def test_a_folder_begun_otherwise_is_refused(encode, options, told):
    assert encode()[0] == 0
    before = {file: file.read_bytes() for file in shards()}
    code, said = encode(*options)
    assert code == 1
    assert told in said
    assert {file: file.read_bytes() for file in shards()} == before


def test_a_folder_of_another_model_is_refused(encode, tmp_path_factory):
    from random_checkpoint import write_random_checkpoint

    assert encode()[0] == 0
    other = write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "other", seed=5)
    code, said = encode("-m", other)
    assert code == 1
    assert "model " in said
    assert "… there, " in said


def test_other_documents_are_refused(encode):
    assert encode()[0] == 0
    Path("more.jsonl").write_text('{"text": "more"}\n', encoding="utf-8")
    assert "more.jsonl does not belong to it" in encode(paths=("corpus.jsonl", "more.jsonl"))[1]
    with Path("corpus.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('\n{"text": "more"}\n')
    code, said = encode()
    assert code == 1
    assert "corpus.jsonl has changed since" in said


def test_folders_that_are_something_else(encode, check):
    Path("other").mkdir()
    Path("other/thesis.tex").write_text("", encoding="utf-8")
    code, said = encode(out="other/")
    assert code == 1
    assert "other holds thesis.tex and no _manifest.json" in said
    assert run(["encode", "--check", "other"]) == 1
    Path("v").mkdir()
    Path("v/_manifest.json").write_text("{}", encoding="utf-8")
    assert "_manifest.json is damaged" in encode()[1]


def test_options_of_folders_need_one(encode, capsys):
    code, _ = encode("--jsonl", out="v.parquet")
    assert code == 2
    assert run(["encode", "corpus.jsonl", "--jsonl", "--token-vectors", "int8"]) == 2
    assert "--token-vectors is for a folder" in capsys.readouterr().err
    assert run(["encode", "corpus.jsonl", "--out", "v/", "--workers", "2"]) == 2
    assert "--workers is for --ray" in capsys.readouterr().err


def test_what_is_damaged_or_foreign_is_found(encode, check, tmp_path_factory):
    assert encode()[0] == 0
    assert encode("--max-length", "16", out="w/")[0] == 0
    flipped, cut, foreign, unknown = shards()[:4]
    data = bytearray(flipped.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-100])
    foreign.write_bytes(Path("w", foreign.name).read_bytes())
    unknown.write_bytes(b"")
    Path("v/shard-000099.parquet").write_bytes(shards()[5].read_bytes())
    code, found = check()
    assert code == 1
    assert [line.split(" (")[0] for line in found] == [
        f"{flipped.name}: damaged",
        f"{cut.name}: damaged",
        f"{foreign.name}: of another model",
        f"{unknown.name}: damaged",
        "shard-000099.parquet: not of this folder",
    ]
    assert "max_length 16 instead of 1024" in found[2]


def test_a_bad_record_costs_its_shard_until_it_is_skipped(encode, check, corpus):
    lines = (corpus / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    lines[20] = '{"id": "d20"}'
    (corpus / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, said = encode()
    assert code == 1
    assert "1 shard could not be encoded: shard-000002.parquet: " in said
    assert "corpus.jsonl:21: no field 'text'" in said
    assert check() == (1, ["shard-000002.parquet: missing"])
    code, said = encode("--on-error", "skip")
    assert code == 0
    assert "1 record skipped" in said
    assert "7 documents encoded into 1 shard" in said
    assert check() == (0, [])
    skipped = json.loads(Path("v/_shard-000002.skipped.jsonl").read_text(encoding="utf-8"))
    assert (skipped["line"], skipped["record"]) == (21, {"id": "d20"})
    assert pq.read_table("v").num_rows == DOCUMENTS - 1


def test_what_was_cut_is_told(encode):
    assert f"{DOCUMENTS} of {DOCUMENTS} texts had more than 4 tokens" in encode("--max-length", "4")[1]


def test_just_some_metadata(encode):
    assert encode("--metadata", "n")[0] == 0
    assert json.loads(pq.read_table("v")["metadata"][7].as_py()) == {
        "path": str(Path("corpus.jsonl").absolute()),
        "n": 7,
    }


def test_ctrl_c_says_how_to_go_on(corpus, tiny_checkpoint, encode, check):
    command = encoding_command(tiny_checkpoint)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: len(shards()) >= 2)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)[1]
        assert running.returncode == 130
    assert "shards finished; the same command goes on from there" in said
    assert not list(Path("v").glob(".*.part"))
    assert encode()[0] == 0
    assert check() == (0, [])


def encoding_command(checkpoint, *options):
    """A command that takes so long that it can be met in its midst: a process a shard would be too quick."""
    command = [sys.executable, "-m", "trivec", "encode", "corpus.jsonl", "--out", "v/", "-m", str(checkpoint)]
    return [*command, "--shard-rows", str(SHARD), "--precision", "fp32", "--threads", "1", *options]


def wait_until(done, seconds=60):
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_a_shard_that_another_process_has_is_waited_for_and_taken_over(corpus, tiny_checkpoint, encode, check):
    # It holds the first shard as a process that hangs would, until it is killed.
    holding = (
        "import sys, time; from pathlib import Path; from trivec.shards.claims import Claims\n"
        "with Claims(Path('v')).claimed(0) as granted:\n    print(granted, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        with subprocess.Popen(encoding_command(tiny_checkpoint), stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr.readline() == "waiting for 1 shard that other processes have\n"
            assert [file.name for file in shards()] == [f"shard-{i:06d}.parquet" for i in range(1, 7)]
            os.kill(holder.pid, signal.SIGKILL)
            assert f"{DOCUMENTS} documents" in running.communicate(timeout=60)[1]
    assert check() == (0, [])


def test_kills_at_any_moment_lose_and_double_nothing(corpus, tiny_checkpoint, encode, check):
    """Two processes share the work; one after another is killed and begun again. (100,000: benchmarks/shards.py.)"""
    moments = random.Random(0)
    killed = 0
    running = []
    try:
        while killed < 5:
            running += [
                subprocess.Popen(encoding_command(tiny_checkpoint), stderr=subprocess.DEVNULL)
                for _ in range(2 - len(running))
            ]
            there = len(shards())
            victim = running[killed % 2]
            wait_until(lambda there=there, victim=victim: len(shards()) > there or victim.poll() is not None)
            time.sleep(moments.random() * 0.02)
            victim.kill()
            killed += victim.wait(60) == -signal.SIGKILL
            running.remove(victim)
            if len(shards()) == 7:  # all done before it was killed often enough
                for file in shards():
                    file.unlink()
    finally:
        for process in running:
            process.kill()
            process.wait(60)
    assert encode("--threads", "1")[0] == 0
    assert check() == (0, [])
    assert not list(Path("v").glob(".*.part"))
    assert encode("--threads", "1", out="w/")[0] == 0
    assert [file.read_bytes() for file in shards("v")] == [file.read_bytes() for file in shards("w")]
