"""What type checkers see of the public interface, on code as users write it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from type_checkers import CHECKERS, faults

USE = Path(__file__).with_name("typed_use.py")
WRONG = """# pyright: strict
from trivec import M3Model
def use(model: M3Model) -> None:
    model.encode([], batchsize=4)
    model.encode([], max_batch_tokens="4")
    model.encode([], return_dense=False).dense.shape
"""


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right_passes_and_what_is_wrong_does_not(checker: str, tmp_path: Path) -> None:
    pytest.importorskip(checker)
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    found = faults(checker, sys.executable, tmp_path, USE, wrong)
    assert [fault for fault in found if fault[0] == USE.name] == []
    assert {line for name, line, _ in found if name == wrong.name} == {4, 5, 6}
