"""The library's own interface: a model that turns texts into vectors and scores pairs, in this process or on a server.

`m3_model` joins checkpoint, tokenizer, engine and the encoding path; `remote` has a server of `trivec serve` do the
work; `async_model` is either of them for programs on asyncio.
"""

from __future__ import annotations

from trivec.model.m3_model import M3Model, encode_without_warning

__all__ = ["M3Model", "encode_without_warning"]
