"""OpenVINO, imported without its usage reports.

Plain `import openvino` forks a process that reports the import to its maker's statistics service. Turning texts into
vectors is no one else's business, so the reporting package is kept out of sight for the moment of the import; OpenVINO
then uses its own silent stand-in.
"""

import os
import sys
from functools import cache

from trivec.support.forks import never_free

# oneDNN, within OpenVINO, keeps what it compiled for each shape of a product: 1,024 of them, of 0.3 MB. A text of every
# length up to some hundred tokens fills that. It is read once, before the first product; whoever has set it keeps it.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")

_hidden = "openvino_telemetry" not in sys.modules
if _hidden:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes the import statement raise ImportError
try:
    import openvino as ov
    from openvino import opset13 as op
finally:
    if _hidden:
        del sys.modules["openvino_telemetry"]

__all__ = ["core", "op", "ov"]


def core() -> ov.Core:
    """Return OpenVINO's runtime: one a process, which is never given up.

    Each one moves the stack on which signals are handled into memory of its own, and back when it is freed. Of several
    that are freed in the order they were made, the last moves it into memory that is gone: the next Ctrl-C then
    ends in a segmentation fault (OpenVINO 2026.4).
    """
    return _core_of(os.getpid())


@cache
def _core_of(_process: int) -> ov.Core:
    made = ov.Core()
    never_free(made)
    return made
