"""A fork after loading: the child encodes, or is told at once what to do; nothing waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from trivec.support.forks import ForkSafeLock, PerProcess

SECONDS = 60  # a child that has not answered by then never will


def run(code: str, *arguments: object, **environment: str) -> str:
    """Run code in an interpreter of its own, which may fork and hang; return what it wrote, its errors too."""
    done = subprocess.run(
        # Python 3.12 and newer warn of every fork of a process that has threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# The child ends as a server's worker does, freeing everything; a signal ends it if it hangs.
FORK = """
import os, signal, sys, warnings
import numpy as np
from trivec import M3Model
from trivec.errors import TrivecError

def in_child(work, ending=sys.exit):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        work()
        sys.stdout.flush()
        ending(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"

texts = ["a small boat crossed the lake", "la pluie tombe"] * 40
"""


@pytest.mark.parametrize("parallelism", [None, "true", "false"])
def test_a_forked_child_encodes_and_ends(parallelism: str | None, tiny_checkpoint: Path) -> None:
    environment = {} if parallelism is None else {"TOKENIZERS_PARALLELISM": parallelism}
    code = """
        model = M3Model.load(sys.argv[1], precision="fp32")
        wanted = model.encode(texts)
        def work():
            vectors = model.encode(texts)
            assert np.array_equal(vectors.dense, wanted.dense)
            assert abs(vectors.sparse - wanted.sparse).max() == 0
            print("encoded")
        in_child(work)
        in_child(lambda: in_child(work))
        assert np.array_equal(model.encode(texts).dense, wanted.dense)
    """
    assert run(FORK + textwrap.dedent(code), tiny_checkpoint, **environment) == "encoded\nencoded\n"


def test_a_forked_child_that_never_encodes_ends(tiny_checkpoint: Path) -> None:
    code = """
        with M3Model.load(sys.argv[1], precision="fp32") as model:
            model.encode(texts, return_colbert_vecs=True)
            in_child(lambda: None)
            in_child(model.close)
            assert len(model.encode(texts)) == len(texts)
        def work():
            try:
                model.encode(texts)
            except TrivecError as error:
                print(error)
        in_child(work)
    """
    assert run(FORK + textwrap.dedent(code), tiny_checkpoint) == "the model is closed: load it again\n"


def test_a_stream_begun_before_the_fork_is_refused_in_the_child(tiny_checkpoint: Path) -> None:
    code = """
        model = M3Model.load(sys.argv[1], precision="fp32")
        stream = model.encode_stream(texts * 20)
        next(stream)
        def work():
            try:
                list(stream)
            except TrivecError as error:
                print(error)
        in_child(work)
        print(len(list(stream)))
    """
    told, rest = run(FORK + textwrap.dedent(code), tiny_checkpoint).splitlines()
    assert "begun before the process was forked" in told
    assert int(rest) == 80 * 20 - 1


def test_forks_while_other_threads_encode(tiny_checkpoint: Path) -> None:
    code = """
        import threading
        model = M3Model.load(sys.argv[1], precision="fp32")
        stop = threading.Event()
        def encode():
            while not stop.is_set():
                model.encode(texts)
        threads = [threading.Thread(target=encode) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(int(sys.argv[2])):
            in_child(lambda: print(len(model.encode(texts))))
        stop.set()
        for thread in threads:
            thread.join()
    """
    assert run(FORK + textwrap.dedent(code), tiny_checkpoint, 6) == "80\n" * 6


def test_a_forked_child_leaves_milvus_lite_to_its_parent(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Ending, it would write down the parent's rows and give up the parent's lock on the file."""
    pytest.importorskip("milvus_lite", reason="needs Milvus Lite: pip install 'trivec[milvus]'")
    code = """
        import fcntl, time
        from trivec.milvus import M3Collection
        def is_locked():
            lock = os.open(sys.argv[2] + "/LOCK", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(lock)
            return False
        model = M3Model.load(sys.argv[1], precision="fp32")
        with M3Collection("c", model, uri=sys.argv[2]) as collection:
            collection.add(["a boat", "a lake"], show_progress=False)
            in_child(lambda: None)
            assert is_locked()
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            collection.add(["a train"], show_progress=False)
            assert collection.count() == 3
        assert not is_locked()  # though a child lives on, which had a copy of the lock's descriptor
        os.kill(child, signal.SIGKILL)
        assert M3Collection("c", model, uri=sys.argv[2]).count() == 3
    """
    run(FORK + textwrap.dedent(code), tiny_checkpoint, tmp_path / "f.db")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_locks_that_another_thread_held_are_free_in_a_child() -> None:
    lock, held, done = ForkSafeLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock.own():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        with lock.own():
            os._exit(7)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7


class Value:
    def __init__(self, of: int) -> None:
        self.of = of


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("survives", "code"), [(False, 8), (True, 7)])
def test_a_value_is_made_anew_unless_it_survives(survives: bool, code: int) -> None:
    value = PerProcess(Value(7), lambda: Value(8), survives)
    child = os.fork()
    if child == 0:
        os._exit(value.get().of if value.get() is value.get() is value.own() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code
    assert value.get().of == 7


def test_a_pool_of_forked_processes_encodes(tiny_checkpoint: Path) -> None:
    """multiprocessing pickles `model.encode` for each task: what travels is the model's name."""
    code = """
        import multiprocessing
        model = M3Model.load(sys.argv[1], precision="fp32")
        wanted = model.encode(texts)
        for method in ("fork", "spawn"):
            if __name__ == "__main__":
                with multiprocessing.get_context(method).Pool(2) as pool:
                    parts = pool.map_async(model.encode, [texts[:40], texts[40:]]).get(40)
                got = np.concatenate([part.dense for part in parts])
                assert np.abs(got - wanted.dense).max() < 1e-6, method
    """
    run(FORK + textwrap.dedent(code), tiny_checkpoint)


def test_torch_is_refused_in_a_child(tiny_checkpoint: Path) -> None:
    pytest.importorskip("torch")
    code = """
        model = M3Model.load(sys.argv[1], precision="fp32", engine="torch", device="cpu")
        model.encode(texts)
        def work():
            try:
                model.encode(texts)
            except TrivecError as error:
                print(error)
        in_child(work)
        assert len(model.encode(texts)) == len(texts)
    """
    told = run(FORK + textwrap.dedent(code), tiny_checkpoint)
    assert "forked" in told
    assert "spawn" in told
