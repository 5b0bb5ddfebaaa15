"""`trivec search`: what the other tests of commands leave out."""

import json

QUERY = "Which bridge was built first?"


def test_the_shell_shows_documents(trivec_command, tmp_path):
    (tmp_path / "a.md").write_text("The old bridge was built first. " * 200)
    (tmp_path / "b.md").write_text("A boat crossed the lake.")
    assert trivec_command("index", "a.md", "b.md", "-c", "notes", "--model", "nano", "--chunk-tokens", 64)[0] == 0
    code, out, _ = trivec_command("search", QUERY, "-c", "notes", "--group", "document", "--json")
    assert code == 0
    hits = json.loads(out)["hits"]
    assert sorted(hit["id"] for hit in hits) == ["a.md", "b.md"]
    assert len(hits[0]["chunks"]) > 1


def test_the_shell_reranks_by_a_cross_encoder(trivec_command, tmp_path, tiny_reranker_checkpoint):
    (tmp_path / "a.md").write_text("The old bridge was built first.")
    (tmp_path / "b.md").write_text("A boat crossed the lake.")
    assert trivec_command("index", "a.md", "b.md", "-c", "notes", "--model", "nano")[0] == 0
    options = ("--rerank", "cross-encoder", "--reranker", tiny_reranker_checkpoint, "--precision", "fp32")
    code, out, _ = trivec_command("search", QUERY, "-c", "notes", "-n", 2, "--json", *options)
    assert code == 0
    hits = json.loads(out)["hits"]
    assert len(hits) == 2
    assert 1 > hits[0]["cross_encoder_score"] >= hits[1]["cross_encoder_score"] > 0
    assert [hit["score"] for hit in hits] == [hit["cross_encoder_score"] for hit in hits]
    code, out, _ = trivec_command("search", QUERY, "-c", "notes", *options)
    assert code == 0
    assert f"{hits[0]['score']:.4f}" in out
    code, _, err = trivec_command("search", QUERY, "-c", "notes", "--reranker", tiny_reranker_checkpoint)
    assert code == 2
    assert "needs --rerank cross-encoder" in err
    code, _, err = trivec_command("search", QUERY, "-c", "notes", "--rerank", "cross-encoder", "--reranker", "nano")
    assert code == 1
    assert "no classification head" in err
