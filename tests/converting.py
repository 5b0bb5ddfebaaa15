"""Checkpoints converted to bfloat16 through the cache, counted: what the tests of the cache and its command share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trivec.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from trivec.checkpoint.converted_cache import ConvertedCache

Tensors = Iterator[tuple[str, StoredTensor]]


def to_bfloat16(source: Checkpoint) -> Tensors:
    for name, tensor in source.encoder.items():
        bits = (tensor.float32().view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)
        yield name, StoredTensor(bits.astype(np.uint16), "BF16")


class Loading:
    """Loads through a cache in `folder` and counts how often that converts."""

    def __init__(self, folder: Path) -> None:
        self.cache = ConvertedCache(folder)
        self.conversions = 0

    def __call__(self, model: Path, precision: str = "bf16") -> dict[str, StoredTensor]:
        source = open_checkpoint(model)

        def convert() -> Tensors:
            self.conversions += 1
            return to_bfloat16(source)

        tensors = self.cache.load_or_convert(source, precision, convert)
        assert_converted(tensors, source)
        return tensors

    def entry_folders(self) -> list[Path]:
        return sorted(path for path in self.cache.folder.glob("*-*") if path.is_dir())

    @property
    def entry(self) -> Path:
        (entry,) = self.cache.entries()
        return entry.path


def assert_converted(tensors: dict[str, StoredTensor], source: Checkpoint) -> None:
    expected = dict(to_bfloat16(source))
    assert list(tensors) == list(expected)
    for name, tensor in expected.items():
        assert tensors[name].dtype == "BF16"
        assert np.array_equal(tensors[name].data, tensor.data)
