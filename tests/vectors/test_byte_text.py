import json

import numpy as np
import pytest

from trivec.vectors.byte_text import bytes_of, text_of


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 256, 1000, 70_001])
def test_bytes_come_back(length):
    data = np.random.default_rng(length).bytes(length)
    text = text_of(data)
    assert len(text) == 1 + 4 * -(-length // 3)
    assert bytes_of(text).tobytes() == data


def test_every_byte_in_every_place_comes_back():
    data = bytes(range(256)) * 3
    for shift in range(3):
        assert bytes_of(text_of(data[shift:])).tobytes() == data[shift:]


def test_the_text_is_its_own_json():
    text = text_of(np.random.default_rng(0).bytes(100_000))
    assert json.dumps(text) == f'"{text}"'
    assert text.isprintable()


@pytest.mark.parametrize("text", ["", "3####", "0###", "0####é", "x####", "0#é##", "1", "2"])
def test_what_does_not_stand_for_bytes_is_refused(text):
    with pytest.raises(ValueError, match="does not stand for bytes"):
        bytes_of(text)
