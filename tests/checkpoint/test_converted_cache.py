"""Converted checkpoints: done once, found again by content, replaced when damaged or outdated, never half written."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from converting import Loading, Tensors, assert_converted, to_bfloat16
from random_checkpoint import write_random_checkpoint
from sample_texts import SENTENCES
from trivec import M3Model
from trivec.checkpoint import StoredTensor, converted_cache, digests, open_checkpoint
from trivec.checkpoint.converted_cache import Cleared, ConvertedCache
from trivec.engines.processor import offers_int8
from trivec.support.cache_folder import default_cache_folder

needs_int8 = pytest.mark.skipif(not offers_int8(), reason="no engine computes in int8 here")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and limits of POSIX")


@pytest.fixture
def model(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


@pytest.fixture
def load(tmp_path: Path) -> Loading:
    return Loading(tmp_path / "cache")


def flip_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_second_load_converts_nothing(load: Loading, model: Path) -> None:
    load(model)
    before = load.entry.read_bytes()
    load(model)
    assert load.conversions == 1
    assert load.entry.read_bytes() == before


def test_content_decides_not_the_folder(load: Loading, model: Path, tmp_path: Path) -> None:
    load(model)
    load(Path(shutil.copytree(model, tmp_path / "copy")))
    assert load.conversions == 1
    flip_byte(model / "model.safetensors", -1)
    load(model)
    assert load.conversions == 2
    load(tmp_path / "copy")
    assert load.conversions == 2
    assert len(load.cache.entries()) == 2


def test_shape_and_tokenizer_belong_to_the_content(load: Loading, model: Path) -> None:
    load(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_attention_heads": 2}))
    load(model)
    assert load.conversions == 2
    (model / "config.json").write_text(json.dumps(config | {"trivec": {"fusion_weights": [1, 2, 3]}}))
    load(model)
    assert load.conversions == 2
    (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + "\n")
    load(model)
    assert load.conversions == 3


def test_every_precision_has_its_entry(load: Loading, model: Path) -> None:
    for precision in ("bf16", "int8", "bf16", "int8"):
        load(model, precision)
    assert load.conversions == 2
    assert sorted(entry.precision for entry in load.cache.entries()) == ["bf16", "int8"]


def test_another_version_replaces_the_entry(load: Loading, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(model, "int8")
    load(model)
    monkeypatch.setattr(converted_cache, "__version__", "99.0")
    load(model)
    assert load.conversions == 3
    versions = {entry.precision: entry.version for entry in load.cache.entries()}
    assert versions["bf16"] == "99.0" != versions["int8"]
    assert len(versions) == len(list(load.cache.folder.rglob("*.safetensors"))) == 2


def test_unchanged_files_are_hashed_once(load: Loading, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    real = digests._sha256
    monkeypatch.setattr(digests, "_sha256", lambda file: hashed.append(file) or real(file))
    load(model)
    assert hashed == [model / "model.safetensors", model / "tokenizer.json", load.entry]
    load(model)
    assert len(hashed) == 3
    os.utime(model / "model.safetensors", (1, 1))
    load(model)
    assert hashed[3:] == [model / "model.safetensors"]
    assert load.conversions == 1


def test_a_change_that_keeps_size_and_date_is_seen(load: Loading, model: Path) -> None:
    weights = model / "model.safetensors"
    load(model)
    before = weights.stat()
    flip_byte(weights, -1)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    load(model)
    assert load.conversions == 2


def test_shards_count_in_full(load: Loading, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "sharded", weights="model.safetensors.index.json")
    load(folder)
    for number in (1, 2):
        flip_byte(folder / f"model-0000{number}-of-00002.safetensors", -1)
        load(folder)
        assert load.conversions == 1 + number


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: flip_byte(entry, -1),
        lambda entry: flip_byte(entry, 20),
        lambda entry: flip_byte(entry, 0),
        cut,
        lambda entry: entry.write_bytes(b""),
        Path.unlink,
        lambda entry: entry.with_suffix(".sha256").unlink(),
        lambda entry: entry.with_suffix(".sha256").write_bytes(b"\xff{garbage"),
        lambda entry: entry.with_suffix(".sha256").write_bytes(b""),
    ],
    ids=["last byte", "header", "first byte", "cut", "empty", "gone", "no checksum", "garbage", "empty checksum"],
)
def test_damage_is_repaired_without_a_word(damage, load: Loading, model: Path) -> None:
    load(model)
    good = load.entry.read_bytes()
    damage(load.entry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(model)
        assert load.conversions == 2
        load(model)
    assert load.conversions == 2
    assert load.entry.stat().st_size == len(good)


def test_damaged_checksums_of_files_are_made_again(load: Loading, model: Path) -> None:
    load(model)
    for remembered in (load.cache.folder / "digests").iterdir():
        remembered.write_bytes(b"[1, 2")
    load(model)
    for remembered in (load.cache.folder / "digests").iterdir():
        remembered.write_bytes(b'["state"]')
    load(model)
    assert load.conversions == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_conversion_that_fails_leaves_nothing(
    error: type[BaseException], load: Loading, model: Path, tmp_path: Path
) -> None:
    source = open_checkpoint(model)

    def convert() -> Tensors:
        tensors = to_bfloat16(source)
        yield next(tensors)
        assert list(load.cache.folder.rglob("*.part"))
        raise error

    with pytest.raises(error):
        load.cache.load_or_convert(source, "bf16", convert)
    left = {path.suffix for path in load.cache.folder.rglob("*") if path.is_file()}
    assert left == {".lock", ".json"}
    load(model)
    assert load.conversions == 1


def test_a_mapped_entry_outlives_its_file(load: Loading, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_checkpoint(model)
    first = load(model)
    monkeypatch.setattr(converted_cache, "__version__", "99.0")
    second = load(model)
    load.cache.clear()
    assert_converted(first, source)
    assert_converted(second, source)


def test_clearing_twice_at_once_is_no_error(load: Loading, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in ("bf16", "int8"):
        load(model, precision)
    first, lock = load.entry_folders()[0], ConvertedCache._lock

    def another_is_quicker(cache: ConvertedCache, folder: Path, timeout: float = -1) -> FileLock:
        shutil.rmtree(first, ignore_errors=True)
        return lock(cache, folder, timeout)

    monkeypatch.setattr(ConvertedCache, "_lock", another_is_quicker)
    assert load.cache.clear().freed > 0
    assert load.entry_folders() == []


@needs_int8
def test_a_model_from_the_cache_gives_the_same_vectors(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "cache"))
    dense = []
    for use_cache in (False, True, True):
        with M3Model.load(model, precision="int8", use_cache=use_cache) as loaded:
            dense.append(loaded.encode([texts[0] for texts in SENTENCES.values()]).dense)
        assert len(ConvertedCache().entries()) == use_cache
    assert np.array_equal(dense[0], dense[1])
    assert np.array_equal(dense[0], dense[2])


# Loads the model argv[1] through the cache argv[2]; each conversion adds a line to argv[3], and takes argv[4] seconds.
PROCESS = """
import sys, time
from pathlib import Path
from converting import assert_converted, to_bfloat16
from trivec.checkpoint import open_checkpoint
from trivec.checkpoint.converted_cache import ConvertedCache

source = open_checkpoint(sys.argv[1])

def convert():
    tensors = list(to_bfloat16(source))
    yield from tensors[:5]
    with Path(sys.argv[3]).open("a") as count:
        count.write("converted\\n")
    time.sleep(float(sys.argv[4]))
    yield from tensors[5:]

assert_converted(ConvertedCache(Path(sys.argv[2])).load_or_convert(source, "bf16", convert), source)
"""


def start(model: Path, load: Loading, count: Path, seconds: float) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", PROCESS, str(model), str(load.cache.folder), str(count), str(seconds)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_of_two_processes_one_converts(load: Loading, model: Path, tmp_path: Path) -> None:
    # While one converts, which takes this long, the other starts and finds the work begun.
    both = [start(model, load, tmp_path / "count", seconds=3) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "count").read_text() == "converted\n"
    load(model)
    assert load.conversions == 0


def test_of_two_threads_one_converts(load: Loading, model: Path) -> None:
    source = open_checkpoint(model)
    both_are_here = threading.Barrier(2)
    conversions = []

    def convert() -> Tensors:
        conversions.append(1)
        time.sleep(0.3)
        return to_bfloat16(source)

    def work() -> None:
        both_are_here.wait()
        results.append(load.cache.load_or_convert(source, "bf16", convert))

    results: list[dict[str, StoredTensor]] = []
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    for tensors in results:
        assert_converted(tensors, source)


@needs_posix
def test_what_a_killed_process_leaves_is_cleaned_up(load: Loading, model: Path, tmp_path: Path) -> None:
    process = start(model, load, tmp_path / "count", seconds=600)
    wait_for(tmp_path / "count")
    # What another process is writing stays, whatever this one does.
    load(model, "int8")
    cleared = load.cache.clear()
    assert cleared.freed > 0
    assert cleared.being_written == 1
    assert len(list(load.cache.folder.rglob("*.part"))) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(load.cache.folder.rglob("*.part"))) == 1
    load(model, "int8")  # any conversion cleans up, not only of the same
    assert not list(load.cache.folder.rglob("*.part"))
    assert [entry.precision for entry in load.cache.entries()] == ["int8"]
    load(model)
    assert load.conversions == 3


def test_where_nothing_can_be_stored_it_is_converted_in_memory(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    load = Loading(tmp_path / "file" / "converted")
    for conversions in (1, 2):
        with pytest.warns(UserWarning, match=r"cannot be kept in .*/file/converted .*TRIVEC_CACHE.*use_cache=False$"):
            load(model)
        assert load.conversions == conversions
    assert load.cache.entries() == []
    assert load.cache.clear() == Cleared(freed=0, being_written=0)


@needs_int8
def test_the_warning_points_at_who_loads(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept") as warned:
        M3Model.load(model, precision="int8").close()
    assert [warning.filename for warning in warned] == [__file__]


@needs_posix
def test_a_full_disk_leaves_nothing_and_converts_in_memory(model: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: both make writing fail in the middle."""
    code = """if True:
        import resource, signal, sys, warnings
        from pathlib import Path
        from converting import Loading
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
        load = Loading(Path(sys.argv[2]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load(Path(sys.argv[1]))
        assert "File too large" in str(caught[0].message), caught
        assert load.conversions == 2
    """
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", code, str(model), str(tmp_path / "cache")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
    left = {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert left == {".lock", ".json"}


def test_a_conversion_that_fails_on_its_own_is_no_matter_of_the_cache(load: Loading, model: Path) -> None:
    def convert() -> Tensors:
        raise FileNotFoundError("calibration texts")

    source = open_checkpoint(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileNotFoundError, match="calibration texts"):
            load.cache.load_or_convert(source, "int8", convert)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the command sha256sum")
def test_entries_say_what_they_are(load: Loading, model: Path) -> None:
    assert load.cache.entries() == []
    load(model)
    (entry,) = load.cache.entries()
    assert (entry.source, entry.precision, entry.version) == (str(model), "bf16", converted_cache.__version__)
    assert entry.bytes == entry.path.stat().st_size > 1000
    assert entry.date[:2] == "20"
    assert entry.date.endswith("+00:00")
    subprocess.run(["sha256sum", "--check", entry.path.with_suffix(".sha256")], cwd=entry.path.parent, check=True)


def test_garbage_in_the_folder_is_passed_over(load: Loading, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(model)
    entry = load.entry
    (load.cache.folder / "letter.txt").write_text("keep me")
    (load.cache.folder / "mine").mkdir()
    (load.cache.folder / "mine" / "0.1.safetensors").write_text("keep me too")
    (load.cache.folder / f"{'0' * 32}-bf16").touch()
    (load.cache.folder / f"{'1' * 32}-bf16").mkdir()
    garbage = load.cache.folder / f"{'1' * 32}-bf16" / "0.1.safetensors"
    garbage.write_bytes(b"garbage")
    with caplog.at_level(logging.INFO, logger="trivec"):
        assert load.entry == entry
    assert str(garbage) in caplog.text
    load(model)
    assert load.conversions == 1
    held = sum(file.stat().st_size for file in entry.parent.iterdir()) + len(b"garbage")
    assert load.cache.clear() == Cleared(freed=held, being_written=0)
    assert load.cache.entries() == []
    assert (load.cache.folder / "letter.txt").exists()
    assert (load.cache.folder / "mine" / "0.1.safetensors").exists()
    load(model)
    assert load.conversions == 2


def test_the_folder_is_the_users_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert ConvertedCache().folder == tmp_path / "own" / "converted"
    monkeypatch.delenv("TRIVEC_CACHE")
    assert ConvertedCache().folder == tmp_path / "xdg" / "trivec" / "converted"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "trivec"
    monkeypatch.setenv("TRIVEC_CACHE", "~/mine")
    assert default_cache_folder() == tmp_path / "home" / "mine"


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and account, as containers run under any number."""
    pytest.importorskip("pwd", reason="elsewhere a home folder is found by other means")
    for name in ("HOME", "XDG_CACHE_HOME", "TRIVEC_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 9)


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("named", [None, "~/mine"])
def test_without_a_home_it_is_converted_in_memory(
    named: str | None, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is not None:
        monkeypatch.setenv("TRIVEC_CACHE", named)
    source = open_checkpoint(model)
    with pytest.warns(UserWarning, match=r"cannot be kept \(.* names no home folder: .*use_cache=False"):
        assert_converted(ConvertedCache().load_or_convert(source, "bf16", lambda: to_bfloat16(source)), source)
    with pytest.raises(FileNotFoundError, match="set TRIVEC_CACHE"):
        ConvertedCache().entries()


@pytest.mark.usefixtures("no_home")
def test_without_a_home_a_folder_can_be_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVEC_CACHE", str(tmp_path))
    source = open_checkpoint(model)
    ConvertedCache().load_or_convert(source, "bf16", lambda: to_bfloat16(source))
    assert len(ConvertedCache().entries()) == 1
