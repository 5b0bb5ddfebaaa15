"""How a model was loaded: what a pickled model consists of, by which the process that unpickles it loads it again.

That is what multiprocessing, Ray and Spark need: the weights are read where they are used, from the same folder or the
hub. The model of each class that was unpickled last stays loaded, since such programs send it along with every task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trivec.support.forks import ForkSafeLock

_lock = ForkSafeLock()
# By the function that loads it: what the model is of, and the model.
_last: dict[str, tuple[str, Any]] = {}


@dataclass(frozen=True)
class LoadArguments:
    """The arguments of `M3Model.load`, which has their meaning."""

    name_or_path: str | Path
    device: str | Sequence[str] | None
    engine: str
    precision: str
    max_length: int | None
    cache_dir: str | Path | None
    revision: str | None
    local_files_only: bool
    num_threads: int | None
    use_cache: bool
    api_key: str | None = field(default=None, repr=False)

    def for_another_process(self) -> LoadArguments:
        """Return the same for a process that may work in another folder."""
        folder = Path(self.name_or_path).expanduser()
        return replace(self, name_or_path=folder.absolute()) if folder.is_dir() else self


def loaded_again(load: Callable[..., Any], arguments: LoadArguments) -> Any:
    """Load a model that was pickled, or return the one that this process unpickled last if it is that.

    Raises:
        TrivecError: As by `load`, `M3Model`'s, for instance where the folder is not on this machine.
    """
    folder = Path(arguments.name_or_path)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    key = repr((vars(arguments), [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]))
    kind = load.__qualname__
    with _lock.own():
        known, model = _last.get(kind, ("", None))
        if known != key or model.closed:
            _last.pop(kind, None)
            model = None  # before another one is in memory too
            model = load(**vars(arguments))
            _last[kind] = (key, model)
        return model
