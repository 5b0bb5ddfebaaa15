"""Token vectors from the shell: kept by `index`, searched by, and what they take."""

from __future__ import annotations

import json

import pytest

from sample_texts import SENTENCES


@pytest.fixture
def indexed(trivec_command, tmp_path, tiny_checkpoint):
    """A collection of the English sentences that keeps token vectors, and one that does not."""
    for number, text in enumerate(SENTENCES["en"]):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    files = [f"{number}.txt" for number in range(len(SENTENCES["en"]))]
    command = ("index", *files, "-m", tiny_checkpoint)
    assert trivec_command(*command, "-c", "kept", "--token-vectors", "int8", "--pool", 2)[0] == 0
    assert trivec_command(*command, "-c", "plain")[0] == 0
    return command


@pytest.mark.parametrize("collection", ["kept", "plain"])
@pytest.mark.parametrize("mode", ["multi", "all"])
def test_search_by_token_vectors(trivec_command, indexed, collection, mode):
    code, out, err = trivec_command("search", SENTENCES["en"][2], "-c", collection, "--mode", mode, "--json", "-n", 3)
    assert (code, err) == (0, "")
    hits = json.loads(out)["hits"]
    assert hits[0]["text"] == SENTENCES["en"][2]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert all((hit["dense_score"] is None) == (mode == "multi") for hit in hits)
    assert all(hit["colbert_score"] is not None for hit in hits)
    table = trivec_command("search", SENTENCES["en"][2], "-c", collection, "--mode", mode)[1]
    assert "colbert" in table


def test_info_says_what_token_vectors_take_and_would_take(trivec_command, indexed):
    kept = json.loads(trivec_command("collections", "info", "kept", "--json")[1])
    plain = json.loads(trivec_command("collections", "info", "plain", "--json")[1])
    assert (kept["token_vectors"], plain["token_vectors"]) == ("int8, pooled by 2", None)
    takes, would = kept["bytes_a_chunk"], plain["bytes_a_chunk"]
    assert takes["dense"] == would["dense"] == 32 * 4
    assert would["token_vectors"] == 0
    # From what is stored and from the number of tokens, which pooling rounds up.
    assert takes["choices"]["int8, pooled by 2"] == pytest.approx(takes["token_vectors"], rel=0.01)
    assert takes["choices"].keys() == would["choices"].keys()
    for form, size in would["choices"].items():
        assert takes["choices"][form] == pytest.approx(size, rel=0.2)
    assert would["choices"]["fp16"] == pytest.approx(2 * would["choices"]["fp16, pooled by 2"], rel=0.01)
    shown = trivec_command("collections", "info", "kept")[1]
    assert "int8, pooled by 2" in shown
    assert "bytes a chunk: token vectors" in shown
    assert "as fp16, pooled by 4" in shown


def test_what_a_collection_keeps_is_not_changed_in_silence(trivec_command, indexed):
    code, _, err = trivec_command(*indexed, "-c", "kept", "--token-vectors", "fp16")
    assert code == 1
    assert "was made to keep token vectors as int8, pooled by 2, not fp16" in err
    assert trivec_command(*indexed, "-c", "kept", "--resume")[0] == 0
    assert "no token vectors" in trivec_command(*indexed, "-c", "plain", "--token-vectors", "fp16")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", "x.txt", "--pool", "2"],
        ["index", "x.txt", "--token-vectors", "int4"],
        ["index", "x.txt", "--token-vectors", "int8", "--pool", "5"],
        ["search", "x", "--mode", "multi", "--rerank", "colbert"],
        ["search", "x", "--mode", "all", "--ranker", "rrf"],
        ["eval", "nano", "x.jsonl", "--pool", "2"],
        ["mine", "x.jsonl", "y.jsonl", "--mode", "multi"],
    ],
)
def test_wrong_usage_ends_with_2(trivec_command, tmp_path, arguments):
    (tmp_path / "x.txt").write_text("a boat", encoding="utf-8")
    assert trivec_command(*arguments)[0] == 2


def test_a_model_without_token_vectors_is_told_what_to_do(trivec_command, tmp_path, tiny_checkpoint):
    from random_checkpoint import write_random_checkpoint

    folder = write_random_checkpoint(tmp_path / "headless")
    (folder / "colbert_linear.pt").unlink()
    (tmp_path / "x.txt").write_text("a boat", encoding="utf-8")
    code, _, err = trivec_command("index", "x.txt", "-m", folder, "--token-vectors", "fp16")
    assert code == 1
    assert "leave out --token-vectors" in err
    assert trivec_command("index", "x.txt", "-m", folder)[0] == 0
    assert "use --mode dense" in trivec_command("search", "boat", "--mode", "all")[2]
