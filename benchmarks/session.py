"""What every benchmark begins with: options, weights, texts, and the peers, loaded and checked against each other.

Knows no measurement.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import machine
import report
import weights
from peers import OURS, PEERS
from processes import Lineup, PeerError, Worker
from roof import Roof
from texts import Texts

# A peer loaded for its turn needs up to this many times the size of the weights.
ROOM = 2.5
_COMPARED_TEXTS = 3
ROUNDS = {"full": 5, "tiny": 2}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--size", choices=["tiny", "full"], default="full", help="tiny: a smoke check in a minute or two")
    made.add_argument("--checkpoint", type=Path, help="a folder of weights, instead of writing random ones")
    made.add_argument("--tokenizer", type=Path, help="folder with a tokenizer.json for the random weights")
    made.add_argument("--rounds", type=int, help=f"{ROUNDS['full']} if not given, {ROUNDS['tiny']} with --size tiny")
    made.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="for everybody; every core if not given")
    made.add_argument("--output", type=Path, help="JSON; build/benchmarks/NAME.json if not given")
    return made


@dataclass
class Session:
    """One benchmark's surroundings.

    Attributes:
        name: The benchmark's.
        options: As given on the command line.
        checkpoint: Folder of the weights.
        config: Its config.json.
        texts: Where to draw texts from.
        result: What will be written; the machine and options are in it from the start.
        vectors: Of the peers that were asked, dense vectors of a few texts, to compare peers by.
    """

    name: str
    options: argparse.Namespace
    checkpoint: Path = field(init=False)
    config: dict[str, Any] = field(init=False)
    texts: Texts = field(init=False)
    result: dict[str, Any] = field(init=False)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        here = machine.describe()
        self.options.rounds = self.options.rounds or ROUNDS[self.options.size]
        self.checkpoint = weights.checkpoint(self.options)
        self.config = weights.config(self.checkpoint)
        self.texts = Texts(self.checkpoint, self.max_length)
        shape = {
            key: self.config[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
        }
        asked = {key: getattr(self.options, key) for key in ("size", "threads", "rounds")}
        self.result = {"benchmark": self.name, "machine": here} | asked | {"weights": shape}

    @property
    def max_length(self) -> int:
        """Most tokens of a text."""
        return self.config["max_position_embeddings"] - 2

    def settings(self) -> dict[str, Any]:
        """What every peer's `load` is told."""
        return {
            "checkpoint": str(self.checkpoint),
            "converted": str(weights.converted(self.checkpoint)),
            "threads": self.options.threads,
            "max_length": self.max_length,
            "hidden_size": self.config["hidden_size"],
        }

    def start(self, name: str, variables: dict[str, str] | None = None) -> Worker:
        """Convert what a peer needs and load it.

        Raises:
            PeerError: Either does not work.
        """
        peer = PEERS[name]
        try:
            for step in peer.steps:
                weights.convert(self.checkpoint, step)
        except weights.ConversionError as error:
            raise PeerError(str(error)) from error
        return Worker(name, peer, self.settings(), variables or {})

    def start_warm(self, name: str) -> Worker:
        """Load a peer, have it encode a few texts once, and keep their vectors for the comparison."""
        worker = self.start(name)
        texts = self.texts.paragraphs(_COMPARED_TEXTS, seed=0)
        self.vectors[name] = np.array(worker.ask("dense", texts=texts)["vectors"])
        return worker

    def lineup(self, start: Callable[[str], Worker] | None = None) -> Lineup:
        """Load every peer asked for."""
        # Conversions first: they take memory that loaded peers would hold.
        for name in self.options.peers:
            for step in PEERS[name].steps:
                try:
                    weights.convert(self.checkpoint, step)
                except weights.ConversionError as error:
                    print(f"{name}: {error}", file=sys.stderr)
        room = ROOM * (self.checkpoint / "model.safetensors").stat().st_size
        return Lineup(self.options.peers, start or self.start_warm, room)

    def roof(self) -> Roof:
        """Load the yardstick."""
        return Roof(self.config, self.settings())

    def ours(self) -> list[str]:
        """Which of ours take part."""
        return [name for name in OURS if name in self.options.peers]

    def cosines(self) -> dict[str, float]:
        """How close each peer's dense vectors come to the reference's (else trivec-fp32's), at worst."""
        standard = next((name for name in ("reference", "trivec-fp32", *self.vectors) if name in self.vectors), None)
        if standard is None:
            return {}
        unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in self.vectors.items()}
        return {name: float((v * unit[standard]).sum(axis=1).min()) for name, v in unit.items()}

    def note_peers(self, lineup: Lineup) -> None:
        """Put versions, precisions, agreement and absences into the result."""
        cosines = self.cosines()
        self.result["peers"] = {
            name: {"unavailable": lineup.unavailable[name]}
            if name in lineup.unavailable
            else lineup.facts[name] | {"dense_cosine": cosines.get(name)}
            for name in self.options.peers
        }

    def finish(self, digest: dict[str, Any]) -> None:
        """Write the result and print its essence as the last line."""
        report.finish(self.result, digest, self.options.output or weights.BUILD / f"{self.name}.json")
