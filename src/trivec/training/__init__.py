"""Fine-tune M3 models, or train small ones from scratch: all three heads at once, in PyTorch (extra `[train]`).

This package knows nothing of inference: what it writes is a folder in BAAI/bge-m3's layout, which the rest of
trivec (and FlagEmbedding) loads like any other. Importing it needs torch; `trivec` itself never imports it.
"""

from __future__ import annotations

from trivec.support.extras import require

require("torch", "train")
