"""A torch module's weights into a safetensors file, a tensor at a time, and back. Knows no model.

Beside the moments of AdamW there may be no room for a second copy of all weights. (The safetensors package writes to a
temporary file of its own, which a killed process leaves behind.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trivec.checkpoint import StoredTensor
from trivec.checkpoint.safetensors_file import write_safetensors
from trivec.support.part_files import replacing


def save_weights(module: nn.Module, path: Path, *, half: bool = False) -> None:
    """Write what a module's `state_dict` holds, in float32 or float16; replaces a file once it is whole.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as part:
        # No padding between tensors: other readers would take it for weights.
        write_safetensors(part, _stored(module, half), {"format": "pt"}, alignment=1)


def load_weights(module: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Load tensors into a module that has all of their names and no other.

    Raises:
        RuntimeError: Names or shapes differ.
    """
    # Copied, as what training writes to the module must not reach a memory map.
    module.load_state_dict({name: torch.from_numpy(np.array(tensor.float32())) for name, tensor in stored.items()})


def _stored(module: nn.Module, half: bool) -> Iterator[tuple[str, StoredTensor]]:
    for name, tensor in module.state_dict().items():
        kept = tensor.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
        yield name, StoredTensor(kept.numpy(), "F16" if half else "F32")
