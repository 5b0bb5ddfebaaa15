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
