"""What every loaded model is, whatever it computes: opened files, an engine for each process, and an end.

`M3Model` and `M3Reranker` make vectors and scores of what the engine gives. Those that a server has have a connection
in place of files and engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from trivec.checkpoint import Checkpoint, M3Config
from trivec.checkpoint.fingerprint import model_fingerprint
from trivec.engines import Engine
from trivec.errors import TrivecError
from trivec.model.opening import Opened
from trivec.support.forks import PerProcess

if TYPE_CHECKING:
    from typing_extensions import Self

    from trivec.checkpoint.tokenizer import M3Tokenizer
    from trivec.scheduling.scheduler import Scheduler


class LoadedModel:
    """A model that is open until `close`.

    Pickling keeps the name and the arguments of `load`, not the weights: see `support.handles`. Copying gives the
    model itself. A forked child loads the weights anew when it first computes.
    """

    _kind: ClassVar[str]  # what it is called in messages
    _scheduler: Scheduler | None = None

    def __init__(self, opened: Opened) -> None:
        self.name: str = str(opened.arguments.name_or_path)
        self.tokenizer: M3Tokenizer = opened.tokenizer
        self.max_length: int = opened.arguments.max_length or opened.checkpoint.config.max_length
        self.checkpoint: Checkpoint = opened.checkpoint
        self.closed: bool = False
        self._arguments = opened.arguments
        self._opened = opened
        engine = self._load_engine()
        self.precision: str = engine.precision
        # An engine whose threads come back in a child by themselves says so: its weights are then shared.
        self._engines = PerProcess(engine, self._load_engine, survives=getattr(engine, "survives_fork", False))

    def _load_engine(self) -> Engine:
        self._refuse_if_closed()
        return self._opened.load_engine()

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise TrivecError(f"the {self._kind} is closed: load it again")

    @property
    def _engine(self) -> Engine:
        """This process's engine: a forked child loads its own when it first computes, from the mapped checkpoint."""
        return self._engines.get()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    @property
    def _state(self) -> str:
        """What `repr` says besides the name."""
        return "closed" if self.closed else f"{self.precision}, {self.max_length} tokens"

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits for the content of weights, heads and tokenizer, whatever folder, engine or precision.

        The first time, all files are read (2.3 GB for BGE-M3); their checksums are remembered on disk.

        Raises:
            CheckpointError: A file of the model is gone, or was replaced after loading.
        """
        return model_fingerprint(self.checkpoint)

    @property
    def config(self) -> M3Config:
        """The encoder's shape and what else the model's config.json says."""
        return self.checkpoint.config

    @property
    def _length_limit(self) -> int:
        """The largest `max_length`."""
        return self.config.max_length

    def scheduler(self, **options: Any) -> Scheduler:
        """Return a queue before this model, for programs that many ask at once; it takes over none of the model's life.

        Args:
            **options: As of `scheduling.scheduler.Scheduler`.
        """
        from trivec.scheduling.scheduler import Scheduler

        dims = {"dense": self.config.hidden_size, "sparse": self.tokenizer.vocabulary_size}
        return Scheduler(self.tokenizer, self._engines.get, dims, **options)

    def behind(self, scheduler: Scheduler) -> Self:
        """Return this model with what it computes going by way of a queue, which `scheduler` has made."""
        queued = object.__new__(type(self))
        vars(queued).update(vars(self), _scheduler=scheduler)
        return queued

    def close(self) -> None:
        """Give the model's memory back; computing afterwards is an error."""
        self.closed = True
        engine = self._engines.own()
        if engine is not None:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
