"""`trivec explain`: a table, JSON, or a page that needs no other file."""

import json

QUERY, TEXT = "where was Turing born?", "Alan Turing was born in </script><script>alert(1)</script> London."


def test_a_table_shows_which_words_answer_which(trivec_command):
    code, out, _ = trivec_command("explain", QUERY, TEXT, "--model", "nano")
    assert code == 0
    assert any("Turing" in line and "Turing 0.9" in line for line in out.splitlines())
    assert "colbert+sparse+dense" in out


def test_json_has_everything(trivec_command):
    code, out, _ = trivec_command("explain", QUERY, TEXT, "--model", "nano", "--json")
    found = json.loads(out)
    assert code == 0
    assert len(found["alignment"]) == len(found["query_words"])


def test_the_page_is_one_file_and_its_texts_are_no_markup(trivec_command, tmp_path):
    code, _, said = trivec_command("explain", QUERY, TEXT, "--model", "nano", "--out", "why.html", "--language", "ja")
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert (code, "wrote why.html" in said) == (0, True)
    assert page.count("<script") == 2
    assert "alert(1)</script>" not in page
    assert 'lang="ja"' in page
    assert "src=" not in page
    assert "import " not in page.partition('type="module">')[2]


def test_what_cannot_be_is_told(trivec_command):
    assert "must end in .html" in trivec_command("explain", QUERY, TEXT, "--out", "why.pdf")[2]
    code, _, said = trivec_command("explain", QUERY, TEXT, "--model", "nano", "--max-length", "9999")
    assert (code, "--max-length" in said) == (2, True)
