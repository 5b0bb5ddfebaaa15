"""trivec, through its public interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from peers import Loaded

IMPORTS = ("trivec",)
PACKAGES = ("trivec", "openvino", "tokenizers", "numpy")


def load(settings: dict[str, Any]) -> Loaded:
    from trivec import M3Model

    model = M3Model.load(settings["checkpoint"], precision=settings["precision"], num_threads=settings["threads"])

    def encode(texts: Sequence[str]) -> Any:
        return model.encode(texts, show_progress=False).dense

    def stream(texts: Iterable[str]) -> Iterator[object]:
        return model.encode_stream(texts, show_progress=False)

    return Loaded(encode, model.precision, stream)
