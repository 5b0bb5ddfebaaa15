"""Where and when a result was measured."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

# The instruction sets that decide which precision is fast.
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8")


def describe() -> dict[str, Any]:
    """The processor, memory, system and time; the load says whether others were working too."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = dict(tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)
    flags = processor.get("flags", "").split()
    return {
        "processor": processor.get("model name", platform.machine()),
        "family_model": f"{processor.get('cpu family', '?')}/{processor.get('model', '?')}",
        "instructions": [name for name in _TELLING if name in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }
