"""`trivec encode --for-milvus` and `trivec import`, from documents to what a search finds."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from trivec.bulk import layout
from trivec.bulk.partition_key import PartitionKey


@pytest.fixture
def corpus(tmp_path):
    """30 documents with metadata; the tiny model's tokenizer knows few words, so their number tells them apart."""
    lines = [
        json.dumps({"id": f"d{i}", "text": "a boat " * (i + 1), "lang": "de" if i % 3 else "en"}) for i in range(30)
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    return "corpus.jsonl"


@pytest.fixture
def encode(trivec_command, corpus, tiny_checkpoint):
    def call(*arguments):
        code, _, err = trivec_command(
            "encode", corpus, "--out", "vectors/", "-m", tiny_checkpoint, "--shard-rows", 10, *arguments
        )
        return code, " ".join(err.split())

    return call


@pytest.mark.parametrize("options", [(), ("--for-milvus",), ("--for-milvus", "--partition-key", "lang")])
def test_from_documents_to_what_is_found(trivec_command, encode, options):
    code, err = encode(*options)
    assert (code, "30 documents encoded into 3 shards of" in err) == (0, True)
    assert encode(*options)[0] == 0  # all there
    files = sorted(Path("vectors").glob("*.parquet"))
    schema = pq.read_schema(files[0])
    assert layout.is_milvus_layout(schema) is bool(options)
    if options:
        key = PartitionKey("lang") if len(options) > 1 else None
        assert schema.remove_metadata() == layout.milvus_schema(partition_key=key)
    assert trivec_command("encode", "--check", "vectors/")[0] == 0
    code, _, err = trivec_command("import", "vectors/", "-c", "boats", *options[1:])
    assert code == 0, err
    assert "3 files imported (30 rows) in" in err
    assert err.strip().endswith("collection boats now holds 30")
    found = json.loads(trivec_command("search", "a boat " * 7, "-c", "boats", "--mode", "dense", "-n", 1, "--json")[1])[
        "hits"
    ]
    assert (found[0]["id"], found[0]["metadata"]["lang"]) == ("d6", "en")
    assert "0 files imported (0 rows), 3 before" in trivec_command("import", "vectors", "-c", "boats")[2]
    assert trivec_command("encode", "--check", "vectors/")[0] == 0  # what is noted there is no fault
    facts = json.loads(trivec_command("collections", "info", "boats", "--json")[1])
    assert (facts["rows"], facts["documents"]) == (30, 30)


def test_a_folder_that_is_not_complete_is_imported_as_far_as_it_is(trivec_command, encode):
    encode()
    gone = sorted(Path("vectors").glob("*.parquet"))[1]
    gone.unlink()
    _, _, err = trivec_command("import", "vectors", "-c", "boats")
    assert "warning: 1 file of vectors not encoded yet: import again when they are" in err
    assert err.strip().endswith("collection boats now holds 20")
    encode()
    assert trivec_command("import", "vectors", "-c", "boats")[2].strip().endswith("collection boats now holds 30")


def test_a_damaged_file_is_named(trivec_command, encode):
    encode()
    damaged = sorted(Path("vectors").glob("*.parquet"))[1]
    whole = bytearray(damaged.read_bytes())
    whole[len(whole) // 2] ^= 1
    damaged.write_bytes(whole)
    code, _, err = trivec_command("import", "vectors", "-c", "boats")
    assert (code, f"{damaged.name} is damaged" in err) == (1, True)


def test_folders_of_another_layout_are_refused(encode):
    encode()
    code, err = encode("--for-milvus")
    assert (code, "for_milvus no there, yes here" in err) == (1, True)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("encode", "corpus.jsonl", "--out", "v/", "--for-milvus", "--no-sparse"), "--for-milvus needs both vectors"),
        (("encode", "corpus.jsonl", "--out", "v/", "--partition-key", "lang"), "--partition-key is for --for-milvus"),
        (("encode", "corpus.jsonl", "--out", "v.parquet", "--for-milvus"), "--for-milvus is for a folder"),
        (("import", "v", "--dense-index", "hnsw", "--ivf-nlist", 5), "--ivf-nlist: only with --dense-index ivf_sq8"),
        (("import", "v", "--partition-key", "a b"), "--partition-key: partition_key is 'a b'"),
        (("index", "corpus.jsonl", "--hnsw-m", 5), "only with --dense-index hnsw"),
    ],
)
def test_wrong_usage(trivec_command, corpus, command, message):
    code, _, err = trivec_command(*command)
    assert (code, message in " ".join(err.replace("│", " ").split())) == (2, True)


def test_a_folder_that_does_not_say_its_model_needs_it_named(trivec_command, encode, tiny_checkpoint):
    encode("--for-milvus")
    for path in [*Path("vectors").glob("*.json"), *Path("vectors").glob("*.jsonl")]:
        path.unlink()
    code, _, err = trivec_command("import", "vectors", "-c", "boats")
    assert (code, "does not say which model its vectors are of: name it, with" in err) == (1, True)
    assert trivec_command("import", "vectors", "-c", "boats", "-m", tiny_checkpoint)[0] == 0
