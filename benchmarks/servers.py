"""The servers that take part: how each is started, asked and left, and what it answers with.

A server is a process of its own with one model; what it prints goes to build/benchmarks/logs. `SERVERS` is the list.
Measures nothing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import environment
from http_client import Request
from processes import PeerError
from trivec.checkpoint.safetensors_file import read_safetensors, write_safetensors
from trivec.checkpoint.tensors import StoredTensor
from weights import BUILD

LONGEST_START = 300.0
PEERS = Path(__file__).parent / "peers"


class Setting(NamedTuple):
    """What every server is started with: the model (its name or folder), threads, and the longest text in tokens."""

    model: str
    folder: Path
    threads: int
    max_length: int


class Server(NamedTuple):
    """One contestant.

    Attributes:
        environment: In `environment.REQUIREMENTS`, or "trivec".
        command: The command line after the environment's own folder of programs, for a setting and a port.
        path: The route that gives a text's vectors.
        body: Texts to what that route is sent.
        dense: What it answers to the dense vectors.
        gives: Which vectors an answer has.
        variables: Environment variables in addition.
    """

    environment: str
    command: Callable[[Setting, int], list[str]]
    path: str
    body: Callable[[Sequence[str]], dict[str, Any]]
    dense: Callable[[Any], list[list[float]]]
    gives: str = "dense, sparse"
    variables: tuple[tuple[str, str], ...] = ()

    def request(self, texts: Sequence[str]) -> Request:
        """What is sent for some texts."""
        return Request("POST", self.path, json.dumps(self.body(texts)).encode())


def _trivec(precision: str) -> Server:
    def command(setting: Setting, port: int) -> list[str]:
        options = ["--precision", precision, "--threads", str(setting.threads)]
        return [sys.executable, "-m", "trivec", "serve", setting.model, "--port", str(port), *options]

    return Server("trivec", command, "/encode", lambda texts: {"inputs": list(texts)}, lambda answer: answer["dense"])


def _infinity(dtype: str) -> Server:
    def command(setting: Setting, port: int) -> list[str]:
        program = environment.python_of("infinity").with_name("infinity_emb")
        # Without warming up, which computes 16,384 tokens at every start and leaves nothing behind.
        options = [
            "--device",
            "cpu",
            "--dtype",
            dtype,
            "--engine",
            "torch",
            "--no-model-warmup",
            "--log-level",
            "warning",
        ]
        named = ["--model-id", str(setting.folder), "--served-model-name", "m3"]
        return [str(program), "v2", *named, "--host", "127.0.0.1", "--port", str(port), *options]

    return Server(
        "infinity",
        command,
        "/embeddings",
        lambda texts: {"model": "m3", "input": list(texts)},
        lambda answer: [item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])],
        "dense",
        (("INFINITY_ANONYMOUS_USAGE_STATS", "0"), ("DO_NOT_TRACK", "1")),
    )


def _fastapi(name: str, module: str, *variables: tuple[str, str]) -> Server:
    def command(_setting: Setting, port: int) -> list[str]:
        served = [f"{module}:app", "--app-dir", str(PEERS), "--host", "127.0.0.1", "--port", str(port)]
        return [str(environment.python_of(name)), "-m", "uvicorn", *served, "--no-access-log", "--log-level", "warning"]

    return Server(
        name,
        command,
        "/encode",
        lambda texts: {"texts": list(texts)},
        lambda answer: answer["dense"],
        variables=variables,
    )


SERVERS = {
    "trivec-fp32": _trivec("fp32"),
    "trivec-auto": _trivec("auto"),
    "infinity-fp32": _infinity("float32"),
    "infinity-bf16": _infinity("bfloat16"),
    "m3serve": _fastapi("m3serve", "fastapi_m3serve"),
    "m3serve-no-delay": _fastapi("m3serve", "fastapi_m3serve", ("DELAY", "0")),
    "flagembedding": _fastapi("flagembedding", "fastapi_flagembedding"),
}
OURS = ("trivec-fp32", "trivec-auto")


class Running:
    """A server's process.

    Attributes:
        name: In `SERVERS`.
        server: Its entry there.
        port: Where it listens.
        facts: "seconds to ready".
    """

    def __init__(self, name: str, setting: Setting, options: Sequence[str] = ()) -> None:
        """Start it and wait until it answers a text.

        Args:
            name: In `SERVERS`.
            setting: See `Setting`.
            options: Put behind its command line.

        Raises:
            PeerError: It cannot be started; the log says more.
        """
        self.name, self.server = name, SERVERS[name]
        reason = environment.missing(self.server.environment)
        if reason:
            raise PeerError(reason)
        self.port = _free_port()
        logs = BUILD / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"server-{name}.log"
        started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.server.command(setting, self.port), *options],
                stdout=log,
                stderr=log,
                env=_variables(setting) | dict(self.server.variables),
            )
        try:
            self._wait_until_ready(started)
        except BaseException:
            self.close()
            raise
        self.facts: dict[str, Any] = {"seconds_to_ready": time.perf_counter() - started, "gives": self.server.gives}

    def ask(self, path: str, body: object = None, timeout: float = 900.0) -> Any:
        """Send one request and return the JSON of its answer.

        Raises:
            urllib.error.HTTPError: The status is not 200.
        """
        content = self.fetch(path, None if body is None else json.dumps(body).encode(), timeout)
        return json.loads(content)

    def fetch(self, path: str, body: bytes | None = None, timeout: float = 900.0) -> bytes:
        """Send one request, POST if there is a body, and return the answer's bytes."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def memory(self) -> float:
        """Resident memory of the process and its children now, in MB."""
        return sum(_resident(process) for process in _with_children(self.process.pid)) / 1e6

    def close(self) -> int:
        """End it as a supervisor does, by force after 40 seconds, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def _wait_until_ready(self, started: float) -> None:
        one_text = json.dumps(self.server.body(["a bridge"])).encode()
        while time.perf_counter() - started < LONGEST_START:
            if self.process.poll() is not None:
                raise PeerError(f"it ended with {self.process.returncode}: {self._last_words()}")
            try:
                self.fetch("/health", timeout=5)
                self.fetch(self.server.path, one_text)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise PeerError(f"{error.code} to its first request: {self._last_words()}") from error
            except OSError:
                pass
            else:
                return
            time.sleep(0.1)
        raise PeerError(f"not ready within {LONGEST_START:.0f} s")

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def peers_folder(checkpoint: Path) -> Path:
    """The checkpoint as a folder that every peer reads as it reads BAAI/bge-m3.

    In addition to the weights: what sentence-transformers (infinity) needs to pool as BGE-M3 does, without which it
    takes the mean; and float32 in the file, as BGE-M3 has, where the checkpoint is stored in float16: m3serve leaves
    the encoder in the file's type on a CPU, and its float32 heads then fail.
    """
    folder = BUILD / f"served-{checkpoint.name}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        link = folder / file.name
        if not link.exists() and file.name != "config.json":
            link.symlink_to(file.resolve())
    config = json.loads((checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}))
    weights = read_safetensors(checkpoint / "model.safetensors")
    if {tensor.dtype for tensor in weights.values()} != {"F32"}:
        (folder / "model.safetensors").unlink()
        converted = ((name, StoredTensor(tensor.float32(), "F32")) for name, tensor in weights.items())
        write_safetensors(folder / "model.safetensors", converted, {"format": "pt"}, alignment=1)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    longest = config["max_position_embeddings"] - 2
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": config["hidden_size"], "pooling_mode_cls_token": True}
    pooling |= {f"pooling_mode_{kind}": False for kind in ("mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "2_Normalize").mkdir(exist_ok=True)
    return folder


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _variables(setting: Setting) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRIVEC_API_KEY")}
    for name in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        variables[f"{name}_NUM_THREADS"] = str(setting.threads)
    ours = {"MODEL": str(setting.folder), "THREADS": str(setting.threads), "MAX_LENGTH": str(setting.max_length)}
    return variables | ours | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "true"}


def _with_children(process: int) -> list[int]:
    found = [process]
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += _with_children(int(child))
    return found


def _resident(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(resident[1]) * 1024 if resident else 0
