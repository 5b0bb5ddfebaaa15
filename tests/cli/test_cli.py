"""The `trivec` command: what it prints where, and how it ends."""

import json
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import time

import pytest

import trivec
from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.cli.app import run
from trivec.engines import processor
from trivec.engines.processor import choose_for_cpu, offers_int8

TEXTS = [text for language in SENTENCES.values() for text in language]


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    (folder / "fr").mkdir(parents=True)
    (folder / "a.md").write_text(" ".join(SENTENCES["en"] * 20), encoding="utf-8")
    (folder / "fr" / "b.txt").write_text(SENTENCES["fr"][0], encoding="utf-8")
    lines = [json.dumps({"key": f"k{i}", "body": text, "length": len(text)}) for i, text in enumerate(TEXTS)]
    (tmp_path / "records.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "trivec", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def test_help_and_version_load_nothing_heavy():
    heavy = "{'openvino', 'pymilvus', 'numpy', 'scipy', 'tokenizers', 'huggingface_hub', 'pyarrow'}"
    code = (
        "import sys; from trivec.cli.app import run\n"
        "assert run(['--help']) == run(['index', '--help']) == run(['--version']) == 0\n"
        f"print('loaded:', {heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert "loaded: set()" in done.stdout
    assert f"trivec {trivec.__version__}" in done.stdout


@pytest.mark.parametrize("command", ["index", "search", "encode", "info", "verify"])
def test_every_help_has_examples(trivec_command, command):
    code, out, _ = trivec_command(command, "--help")
    assert code == 0
    assert f"trivec {command} " in out.split("Examples:")[1]


def test_index_and_search_a_folder(trivec_command, notes, tiny_checkpoint):
    code, out, err = trivec_command("index", "notes", "-m", tiny_checkpoint, "--chunk-tokens", 64, "--overlap", 16)
    assert (code, out) == (0, "")
    assert "2 documents" in err
    code, out, err = trivec_command("search", SENTENCES["fr"][0], "-m", tiny_checkpoint, "-n", 2)
    assert (code, err) == (0, "")
    assert "notes/fr/b.txt#1" in out
    assert "matched" in out
    again = trivec_command("index", "notes", "-m", tiny_checkpoint, "--chunk-tokens", 64, "--overlap", 16, "--resume")
    assert " 0 chunks stored" in again[2]


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_search_as_json(trivec_command, notes, tiny_checkpoint, mode):
    fields = ("--text-field", "body", "--id-field", "key")
    assert trivec_command("index", "records.jsonl", *fields, "-m", tiny_checkpoint, "-c", "r", "--uri", "r.db")[0] == 0
    where = ("-m", tiny_checkpoint, "-c", "r", "--uri", "r.db", "--json")
    code, out, err = trivec_command("search", TEXTS[5], *where, "--mode", mode, "--filter", "length > 10", "-n", 3)
    assert (code, err) == (0, "")
    found = json.loads(out)
    first = found["hits"][0]
    assert first["id"] == "k5#1"
    assert first["text"] == TEXTS[5]
    assert first["metadata"]["length"] == len(TEXTS[5])
    assert (first["dense_score"] is None, first["sparse_score"] is None) == (mode == "sparse", mode == "dense")
    assert first["matched_words"][0][1] > 0
    reranked = trivec_command("search", TEXTS[5], *where, "--mode", mode, "--rerank", "colbert", "-n", 1)
    assert json.loads(reranked[1])["hits"][0]["score"] == pytest.approx(1, abs=1e-2)  # the text itself


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_search_encodes_its_query_once(trivec_command, notes, tiny_checkpoint, monkeypatch, mode):
    assert trivec_command("index", "notes", "-m", tiny_checkpoint)[0] == 0
    encoded = []
    encode = M3Model.encode

    def watched(model, texts, **how):
        encoded.extend(texts)
        return encode(model, texts, **how)

    monkeypatch.setattr(M3Model, "encode", watched)
    code, out, _ = trivec_command("search", SENTENCES["fr"][0], "-m", tiny_checkpoint, "--mode", mode)
    assert (code, encoded) == (0, [SENTENCES["fr"][0]])
    assert "matched: " in out


def test_a_document_cannot_drive_the_terminal(trivec_command, tmp_path, tiny_checkpoint):
    text = "boat \x1b[2J\x1b]0;title\x07 \x9b2J \u202eevil\u2066 می\u200cخواهم 👩\u200d🚀 [bold]markup[/bold]"
    (tmp_path / "evil.txt").write_text(text, encoding="utf-8")
    assert trivec_command("index", "evil.txt", "-m", tiny_checkpoint)[0] == 0
    code, table, _ = trivec_command("search", "boat", "-m", tiny_checkpoint)
    assert code == 0
    as_json = trivec_command("search", "boat", "-m", tiny_checkpoint, "--json")[1]
    for shown in (table, as_json):
        assert not [character for character in "\x1b\x07\x9b\u202e\u2066" if character in shown]
        assert "می\u200cخواهم 👩\u200d🚀" in shown
        assert "[bold]markup[/bold]" in shown
    assert json.loads(as_json)["hits"][0]["text"] == text


def test_weighted_ranker_and_empty_results(trivec_command, notes, tiny_checkpoint):
    assert trivec_command("index", "notes", "-m", tiny_checkpoint)[0] == 0
    where = ("-m", tiny_checkpoint)
    weights = ("--ranker", "weighted", "--dense-weight", 1, "--sparse-weight", 0, "--json")
    hit = json.loads(trivec_command("search", "boat", *where, *weights)[1])["hits"][0]
    assert hit["score"] == pytest.approx(hit["dense_score"])
    assert trivec_command("search", "boat", *where, "--filter", 'path == "none"')[1].strip() == "nothing found"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "x", "-c", "nope"], "error: there is no Milvus Lite file milvus.db"),
        (["search", "x", "--uri", "http://127.0.0.1:1"], "error: no Milvus server answers at http://127.0.0.1:1"),
        (["index", "notes", "--db", "nowhere"], "database 'nowhere'"),
        (["search", "x", "--uri", "milvus"], "error: 'milvus' is no Milvus URI"),
        (["index", "notes", "-m", "./missing"], "error: ./missing: no such folder"),
        (["index", "missing.txt"], "error: missing.txt does not exist"),
        (["index", "records.jsonl"], "error: records.jsonl:1: no field 'text' for the text; the record has 'key'"),
        (["index", "notes", "--uri", "no/folder/x.db"], "does not exist"),
        (["encode", "notes", "-o", "x.bin"], "error: x.bin must end in .npz or .parquet"),
        (["encode", "notes", "-o", "no/x.npz"], "error: cannot write no/x.npz"),
        (["info", "./missing"], "error: ./missing: no such folder"),
        (["verify", "./missing"], "error: ./missing: no such folder"),
    ],
)
def test_what_fails_says_so_in_one_line_and_ends_with_1(trivec_command, notes, tiny_checkpoint, arguments, message):
    model = [] if arguments[0] in ("info", "verify") or "-m" in arguments else ["-m", str(tiny_checkpoint)]
    code, out, err = trivec_command(*arguments, *model)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("error: ")


def test_a_wrong_filter_is_one_line(trivec_command, notes, tiny_checkpoint):
    trivec_command("index", "notes", "-m", tiny_checkpoint)
    code, out, err = trivec_command("search", "x", "-m", tiny_checkpoint, "--filter", "path ==")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "cannot search with the filter 'path =='" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["search"],
        ["search", "x", "--mode", "lexical"],
        ["search", "x", "--limit", "0"],
        ["search", "x", "--limit", "5", "--candidates", "2"],
        ["index", "notes", "--overlap", "300"],
        ["encode", "notes"],
        ["encode", "notes", "-o", "x.npz", "--no-dense", "--no-sparse"],
        ["encode", "notes", "-o", "x.npz", "--max-length", "99999", "-m", "TINY"],
        ["search", "x", "--precision", "int3"],
        ["search", "x", "--ranker", "weighted", "--dense-weight", "0", "--sparse-weight", "0"],
        ["search", "x", "--ranker", "weighted", "--mode", "dense"],
        ["search", "x", "--dense-weight", "0.5"],
    ],
)
def test_wrong_usage_ends_with_2(trivec_command, notes, tiny_checkpoint, arguments):
    code, out, err = trivec_command(*(tiny_checkpoint if each == "TINY" else each for each in arguments))
    assert code == 2
    assert "Traceback" not in err + out


def test_debug_shows_the_traceback_wherever_it_stands(trivec_command):
    for arguments in (["--debug", "index", "missing.txt"], ["index", "missing.txt", "--debug"]):
        code, _, err = trivec_command(*arguments)
        assert code == 1
        assert "Traceback" in err
        assert "error: missing.txt does not exist" in err
    assert "Traceback" not in trivec_command("index", "missing.txt")[2]


def test_info(trivec_command, tiny_checkpoint):
    code, out, err = trivec_command("info", tiny_checkpoint, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["files"]["sparse_linear.pt"] == (tiny_checkpoint / "sparse_linear.pt").stat().st_size
    assert (facts["hidden_size"], facts["layers"], facts["heads"]["sparse_linear"]) == (32, 2, [1, 32])
    assert facts["precision"] in ("fp32", "bf16")
    assert "AMX" in facts["precision_because"]
    assert facts["int8"].startswith("only if asked for" if offers_int8() else "refused")
    code, out, _ = trivec_command("info", tiny_checkpoint)
    assert f"{facts['parameters']:,}" in out


def test_a_reader_that_leaves_is_no_failure(notes, tiny_checkpoint, trivec_command):
    trivec_command("index", "records.jsonl", "--text-field", "body", "-m", tiny_checkpoint)
    search = ("search", "boat", "-m", tiny_checkpoint, "-n", 40)
    info = ("info", tiny_checkpoint)
    for arguments in (
        search,
        (*search, "--json"),
        info,
        (*info, "--json"),
        ("--help",),
        ("index", "-h"),
        ("--version",),
    ):
        with process(*arguments) as command:
            command.stdout.close()  # before anything is written, as `| true` does
            error = command.stderr.read()
        assert (arguments[0], command.returncode, error) == (arguments[0], 0, "")


def test_a_file_open_elsewhere_is_one_line(trivec_command, notes, tiny_checkpoint):
    trivec_command("index", "notes", "-m", tiny_checkpoint)
    holder = subprocess.Popen(
        [sys.executable, "-c", "from pymilvus import MilvusClient as C; C('milvus.db'); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        code, _, err = trivec_command("search", "x", "-m", tiny_checkpoint)
        holder.communicate(b"\n")
    assert (code, err.count("\n")) == (1, 1)
    assert "milvus.db is open in another process" in err


def test_ctrl_c_ends_with_130_and_a_second_run_finishes(notes, tiny_checkpoint, trivec_command, tmp_path):
    fifo = tmp_path / "slow.jsonl"
    os.mkfifo(fifo)
    arguments = ("index", "slow.jsonl", "-m", tiny_checkpoint, "--uri", "s.db")
    with process(*arguments) as indexing:
        # Opened for reading too, so that it does not wait for the command.
        with os.fdopen(os.open(fifo, os.O_RDWR), "w", encoding="utf-8") as stream:
            for i in range(150):  # more than one write to Milvus holds; then the command waits for more
                stream.write(json.dumps({"text": TEXTS[i % len(TEXTS)]}) + "\n")
            stream.flush()
            deadline = time.monotonic() + 60
            while not list((tmp_path / "s.db").glob("**/wal/*")) and time.monotonic() < deadline:
                time.sleep(0.1)
            indexing.send_signal(signal.SIGINT)
            assert indexing.wait(60) == 130
        # A progress bar may stand before it where this machine is slow.
        said = indexing.stderr.read()
        assert re.search(
            r"\ncollection documents of s.db holds 1\d\d chunks; .* --resume goes on from there\n", f"\n{said}"
        )
        assert said.endswith("interrupted\n")
    fifo.unlink()
    lines = [json.dumps({"text": TEXTS[i % len(TEXTS)]}) for i in range(200)]
    fifo.write_text("\n".join(lines), encoding="utf-8")
    code, _, err = trivec_command(*arguments, "--resume")
    assert code == 0
    assert "200 documents" in err
    assert err.strip().endswith("now holds 200")


def test_a_model_without_sparse_head_is_said_when_indexing(trivec_command, notes, tmp_path):
    folder = write_random_checkpoint(tmp_path / "dense-only", heads=())
    code, _, err = trivec_command("index", "notes", "-m", folder, "--chunk-tokens", 64)
    assert code == 0
    assert err.count("warning:") == 1
    assert "only dense vectors are stored" in err
    assert trivec_command("search", "boat", "-m", folder, "--mode", "dense")[0] == 0
    for arguments, remedy in [
        (("search", "boat"), "use --mode dense"),
        (("search", "boat", "--mode", "dense", "--rerank", "colbert"), "leave out --rerank"),
        (("encode", "notes", "-o", "x.npz"), "add --no-sparse"),
        (("encode", "notes", "-o", "x.npz", "--no-sparse", "--colbert"), "leave out --colbert"),
    ]:
        code, _, err = trivec_command(*arguments, "-m", folder)
        assert (code, err.count("\n")) == (1, 1)
        assert remedy in err


def test_a_hub_out_of_reach_is_one_line(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    # The hub's client waits longer and longer between its attempts; the test need not.
    code = "import time; time.sleep = lambda _: None; from trivec.cli.app import run; run(['info', 'no-such/model'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stderr.startswith("error: no-such/model")
    assert done.stderr.count("\n") == 1


def test_equal_ids_in_two_files_are_counted(trivec_command, tmp_path, tiny_checkpoint):
    for name in ("en", "de"):
        lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(SENTENCES[name][:2])]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, _, err = trivec_command("index", "en.jsonl", "de.jsonl", "-m", tiny_checkpoint)
    assert code == 0
    assert "warning: 2 ids occur more than once; the last document of each is kept" in err
    assert err.count("warning:") == 1


@pytest.mark.parametrize("record", ['{"text": "a", "x": NaN}', '{"text": "a", "start": 1}'])
def test_metadata_that_cannot_be_stored_says_what_to_do(trivec_command, tmp_path, tiny_checkpoint, record):
    (tmp_path / "r.jsonl").write_text(record)
    code, _, err = trivec_command("index", "r.jsonl", "-m", tiny_checkpoint)
    assert (code, err.count("\n")) == (1, 1)
    assert "r.jsonl:1" in err
    assert "keep others with --metadata" in err
    assert trivec_command("index", "r.jsonl", "-m", tiny_checkpoint, "--metadata", "other")[0] == 0


def test_short_work_shows_no_progress_bar_on_a_terminal(notes, tiny_checkpoint, tmp_path):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(
        theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0)
    )  # on one without size tqdm shows nothing
    arguments = [sys.executable, "-m", "trivec", "encode", "notes/fr", "-o", "x.npz", "-m", str(tiny_checkpoint)]
    assert subprocess.run(arguments, stderr=theirs, cwd=tmp_path, check=False).returncode == 0
    os.close(theirs)
    assert os.read(ours, 4096).decode().split() == ["1", "document", "encoded", "to", "x.npz"]
    os.close(ours)


@pytest.mark.parametrize(
    ("natively", "system", "said"),
    [
        (True, "Linux", "only if asked for: the processor multiplies"),
        (True, "Darwin", "only if asked for: the processor multiplies"),
        (False, "Linux", "refused: the processor does not multiply.* and there are no kernels"),
        (False, "Windows", "refused: .* cannot be asked on this system"),
    ],
)
def test_info_says_of_int8_what_is_known(natively, system, said, tiny_checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(processor, "has_int8", lambda: natively)
    monkeypatch.setattr(processor, "missing_for_native", lambda: "there are no kernels")
    monkeypatch.setattr(platform, "system", lambda: system)
    assert run(["info", str(tiny_checkpoint), "--json"]) == 0
    assert re.match(said, json.loads(capsys.readouterr().out)["int8"])


def test_info_says_what_int8_is_where_only_the_native_engine_has_it(tiny_checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(processor, "has_int8", lambda: False)
    monkeypatch.setattr(processor, "missing_for_native", lambda: None)
    assert run(["info", str(tiny_checkpoint), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["int8"] == "only if asked for: the native engine multiplies 8-bit weights with AVX2"
    assert facts["engine"] == choose_for_cpu("auto").engine
    assert facts["engine_because"] == choose_for_cpu("auto").engine_because
