"""The table of precisions, and what has to name each of them elsewhere."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from trivec.cli import options
from trivec.engines.precisions import CPU_ENGINES, ENGINES, PRECISION_CHOICES, PRECISIONS, check_engine_has
from trivec.errors import DeviceError
from trivec.verify.published import TOLERANCES


def test_it_is_read_without_what_computes() -> None:
    code = "import trivec.engines.precisions, sys; print({'numpy', 'scipy', 'openvino', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_precision_can_be_asked_for_in_the_shell_and_verified() -> None:
    assert get_args(options.Precision) == PRECISION_CHOICES
    assert get_args(options.Engine) == ENGINES
    assert set(TOLERANCES) == set(PRECISIONS)


def test_an_engine_is_told_what_it_needs_of_each_precision_of_its_own() -> None:
    for precision in PRECISIONS.values():
        assert set(precision.converted_as) <= set(precision.engines) <= set(ENGINES)
        assert bool(precision.openvino_type) == ("openvino" in precision.engines)
        assert bool(precision.torch_dtype) == ("torch" in precision.engines)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_has_the_precisions_that_the_table_gives_it(engine: str) -> None:
    check_engine_has("auto", engine)
    of_engine = CPU_ENGINES if engine == "auto" else {engine}
    for name, precision in PRECISIONS.items():
        if set(precision.engines) & set(of_engine):
            check_engine_has(name, engine)
        else:
            with pytest.raises(DeviceError, match=f'precision="{name}"'):
                check_engine_has(name, engine)
