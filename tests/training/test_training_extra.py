"""Without torch, training names the extra to install."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import pytest

from trivec.errors import MissingExtraError


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed here")
def test_training_without_torch_names_the_extra():
    with pytest.raises(MissingExtraError, match=r"trivec\[train\]"):
        importlib.import_module("trivec.training")
