"""The forms of stored token vectors. Imports nothing, as the command line lists them before it loads."""

from __future__ import annotations

from typing import Literal

TokenForm = Literal["fp16", "int8"]
"""How token vectors are stored."""
