"""Shards encoded on a Ray cluster: Ray Data hands them to actors, each with a model loaded once.

A worker or a node that dies takes the shard at hand with it and nothing else: Ray has that one encoded again elsewhere,
and what is in the folder stays (Ray Data's own checkpoints know blocks that were written, and a run that fails may have
written none). Everything but the rows of outcomes goes between workers and folder directly.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

from trivec.errors import TrivecError
from trivec.shards.encoder import Encoder, ModelIdentity
from trivec.shards.places import Folder
from trivec.shards.sharded_run import Job, Outcome, resumed
from trivec.support.extras import require

# Shards beyond this number go to the actors several at once: Ray's driver keeps a record of each block.
_MOST_BLOCKS = 10_000


class RayCluster:
    """A connection to a Ray cluster, and what a worker of ours takes of it; a context manager.

    Args:
        address: "host:6379" of a cluster's head, "auto" on a machine of it, "local" to start one here.
        workers: How many processes encode; None: one a node.
        threads: Cores a worker computes with; None: as many as there are for each (1 with a GPU).
        gpu: Whether each has a GPU to itself.

    Attributes:
        workers: How many.
        threads: Cores of each.

    Raises:
        MissingExtraError: Ray is not installed.
        TrivecError: There is no such cluster.
    """

    def __init__(self, address: str, workers: int | None, threads: int | None, *, gpu: bool = False) -> None:
        # Its own remarks about its own actors; what dies is told all the same.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        self._ray = ray = require("ray")
        require("ray.data")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(address=address, logging_level="warning", log_to_driver=False)
            except (ConnectionError, ValueError) as error:
                raise TrivecError(f"no Ray cluster at {address}: {' '.join(str(error).split())}") from error
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU" if gpu else "CPU")]
        self.workers = workers or max(1, len(nodes))
        cores = int(ray.cluster_resources().get("CPU", 1))
        self.threads = threads or (1 if gpu else max(1, cores // self.workers))
        self._takes: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": 1 if gpu else 0}

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        if self._own:
            self._ray.shutdown()

    def identity(self, encoder: Encoder) -> ModelIdentity:
        """Return what `encoder.identity()` says on a worker, which may have another processor than this machine.

        Raises:
            TrivecError: The model cannot be loaded there, or no node has what a worker takes.
        """
        remote = self._ray.remote(**self._takes, max_calls=1)(_identity)
        return ModelIdentity(**self._answer(lambda: self._ray.get(remote.remote(encoder))))

    def encode(self, job: Job, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Encode shards on the cluster.

        Args:
            job: The job; its folder and files are places that every node reaches.
            numbers: The shards' numbers.

        Yields:
            The outcome of each shard, as they come.

        Raises:
            TrivecError: A worker cannot load the model, which is another there, or cannot write; the message says why.
        """
        if not numbers:
            return
        data = require("ray.data")
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        items = [{"shard": number} for number in numbers]
        outcomes = data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS)).map_batches(
            ShardWorker,
            fn_constructor_args=(job.folder, job.encoder, job.skip),
            batch_size=1,
            batch_format="pyarrow",
            # One shard in flight: the last ones then go to whoever is free.
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=self.workers, initial_size=self.workers, max_tasks_in_flight_per_actor=1
            ),
            **self._takes,
        )
        rows = iter(outcomes.iter_rows())
        while (row := self._answer(lambda: next(rows, None))) is not None:
            yield Outcome(**row)

    def _answer(self, ask: Any) -> Any:
        try:
            return ask()
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error.__cause__ or error
            raise TrivecError(f"on the Ray cluster: {' '.join(str(cause).split())}") from error


class ShardWorker:
    """What an actor runs: it encodes the shards it is told."""

    def __init__(self, folder: Folder, encoder: Encoder, skip: bool) -> None:
        self._job = resumed(folder, encoder, skip=skip)

    def __call__(self, table: Any) -> Any:
        """Encode the shards whose numbers are in the column "shard"; returns their outcomes, a row each."""
        pa = require("pyarrow")
        shards = self._job.plan.shards
        outcomes = [self._job.encode(shards[number]) for number in table.column("shard").to_pylist()]
        return pa.Table.from_pylist([asdict(outcome) for outcome in outcomes], schema=_outcome_schema())


def _identity(encoder: Encoder) -> dict[str, Any]:
    return asdict(encoder.identity())


def _outcome_schema() -> Any:
    pa = require("pyarrow")
    kinds = {"shard": pa.string(), "fault": pa.string(), "found": pa.bool_()}
    return pa.schema([(name, kinds.get(name, pa.int64())) for name in Outcome.__dataclass_fields__])
