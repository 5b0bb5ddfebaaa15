"""What a type checker sees of the public interface, by mypy on code as users write it."""

from __future__ import annotations

from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api")
TESTS = Path(__file__).parent


@pytest.mark.slow
def test_vectors_that_are_asked_for_are_there_to_a_type_checker(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from trivec import M3Model\n"
        "def use(model: M3Model) -> None:\n"
        "    model.encode([], batchsize=4)\n"
        '    model.encode([], max_batch_tokens="4")\n'
        "    model.encode([], return_dense=False).dense.shape\n"
    )
    options = ["--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    told, errors, _ = api.run([*options, str(TESTS / "typed_use.py"), str(wrong)])
    assert errors == ""
    assert "typed_use.py" not in told, told
    faults = [line for line in told.splitlines() if ": error:" in line]
    assert {line.split(":")[1] for line in faults} == {"3", "4", "5"}
