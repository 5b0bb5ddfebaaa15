"""A pickled model: its name and how it was loaded, by which the process that unpickles it loads it again.

That is what multiprocessing, Ray and Spark need: the weights are read where they are used, from the same folder or the
hub. The model unpickled last stays loaded, since such programs send it along with every task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivec.forks import ForkSafeLock

if TYPE_CHECKING:
    from trivec.model import M3Model

_lock = ForkSafeLock()
_last: dict[str, M3Model] = {}


def handle(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `loaded_again` needs: the arguments of `M3Model.load`, the folder by its absolute path."""
    folder = Path(name).expanduser()
    return {**arguments, "name_or_path": str(folder.absolute()) if folder.is_dir() else name}


def loaded_again(arguments: Mapping[str, Any]) -> M3Model:
    """Load a model by its handle, or return the one that this process unpickled last if it is that.

    Raises:
        TrivecError: As by `M3Model.load`, for instance where the folder is not on this machine.
    """
    from trivec.model import M3Model

    folder = Path(arguments["name_or_path"])
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = repr((sorted(arguments.items()), state))
    with _lock:
        model = _last.get(key)
        if model is None or model.closed:
            _last.clear()
            model = _last[key] = M3Model.load(**arguments)
        return model
