"""Bytes as printable characters, for stores that hold text only: six bits a character, a third more than the bytes.

Base64 does the same; Python decodes it at 3 ns a character, which is most of what reading stored token vectors would
take. Here the characters lie in four planes, so that NumPy encodes and decodes whole arrays at a fifth of that. The
first character says how many of the last bytes are padding. No character is a quote, a backslash or a control
character, so that the text is its own JSON.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The characters are those from "#" on, without the backslash.
_FIRST, _BACKSLASH = ord("#"), ord("\\")
_LOW = np.uint8(63)


def text_of(data: bytes) -> str:
    """Return bytes as text.

    >>> text_of(b"")
    '0'
    >>> bytes_of(text_of(b"any bytes"))
    array([ 97, 110, 121,  32,  98, 121, 116, 101, 115], dtype=uint8)
    """
    padding = -len(data) % 3
    planes = np.frombuffer(data + bytes(padding), np.uint8).reshape(3, -1)
    six = np.empty((4, planes.shape[1]), np.uint8)
    np.bitwise_and(planes, _LOW, out=six[:3])
    high = planes >> 6
    six[3] = high[0] | (high[1] << 2) | (high[2] << 4)
    six += np.uint8(_FIRST)
    six += six >= _BACKSLASH
    return str(padding) + six.tobytes().decode("ascii")


def bytes_of(text: str) -> npt.NDArray[np.uint8]:
    """Return the bytes that a text stands for.

    Raises:
        ValueError: No text of `text_of` is like this.
    """
    if not text.isascii() or len(text) % 4 != 1 or text[0] not in "012" or text in ("1", "2"):
        raise ValueError(f"{text[:20]!r}... ({len(text):,} characters) does not stand for bytes")
    six = np.frombuffer(text.encode("ascii"), np.uint8, offset=1).reshape(4, -1)
    six = six - np.uint8(_FIRST) - (six > _BACKSLASH).view(np.uint8)
    high = six[3]
    for place in range(3):
        six[place] |= high << np.uint8(6 - 2 * place) & np.uint8(0xC0)
    return six[:3].reshape(-1)[: 3 * six.shape[1] - int(text[0])]
