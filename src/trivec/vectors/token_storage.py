"""Token vectors at rest: in float16, or in int8 with one scale a vector; as arrays and as bytes. Knows no store.

A text's token vectors are (tokens, dim) float32. As bytes, little-endian:

    fp16    tokens x dim float16: 2 x dim bytes a vector
    int8    tokens float32 scales, then tokens x dim int8: dim + 4 bytes a vector

How many vectors there are follows from the number of bytes. For vectors of length 1, as the model makes them, an inner
product changes by at most 2^-11 in fp16, and in int8 by at most half the scale times the square root of dim; in
practice by a tenth of that, as errors point in all directions.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt

from trivec.vectors.embeddings import FloatArray
from trivec.vectors.token_forms import TokenForm

_GREATEST = 127
_LARGEST_FLOAT16 = 65504.0
# Of float32: its sign, and what float16 fills of exponent and mantissa; and how far apart the biases of exponents are.
_SIGN_EXPONENT_MANTISSA = np.int32(0x8FFFE000 - 2**32)
_EXPONENT_BIASES = np.float32(2.0 ** (127 - 15))


def check_form(form: object) -> TokenForm:
    """Make sure of a form of token vectors.

    Raises:
        ValueError: It is not one of `TokenForm`.
    """
    if form not in get_args(TokenForm):
        forms = ", ".join(map(repr, get_args(TokenForm)))
        raise ValueError(f"token_vectors is {form!r:.60}: it must be {forms} or None")
    return form  # type: ignore[return-value]  # just compared with all there are


def quantized(vectors: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Round vectors to int8, each by a scale of its own.

    Args:
        vectors: (t, dim) float32 or float16.

    Returns:
        (t, dim) int8 from -127 to 127, and (t,) float32 scales: the vectors are about `numbers * scales[:, None]`, no
        element further off than half its scale. The scale of a vector of zeros is 0.

    Raises:
        ValueError: An element is not a finite number.
    """
    wide = np.asarray(vectors, dtype=np.float32)
    largest = np.abs(wide).max(axis=1, initial=0.0)
    _check(largest, np.isfinite(largest))
    scales = (largest / _GREATEST).astype(np.float32)
    # Below the smallest scale that has an inverse, nothing but zeros is left.
    with np.errstate(divide="ignore"):
        inverse = np.where(scales > 0, np.float32(1) / scales, np.float32(0))
    scales[~np.isfinite(inverse)] = 0.0
    inverse[~np.isfinite(inverse)] = 0.0
    numbers = np.rint(wide * inverse[:, None])
    return np.clip(numbers, -_GREATEST, _GREATEST, out=numbers).astype(np.int8), scales


def dequantized(numbers: npt.NDArray[np.int8], scales: FloatArray) -> FloatArray:
    """Return the (t, dim) float32 vectors of (t, dim) int8 numbers and their (t,) scales."""
    return numbers.astype(np.float32) * np.asarray(scales, np.float32)[:, None]


def halved(vectors: FloatArray) -> npt.NDArray[np.float16]:
    """Round vectors to float16.

    Args:
        vectors: (t, dim) float32.

    Raises:
        ValueError: An element is not finite, or beyond the 65,504 that float16 reaches.
    """
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    _check(largest, largest <= _LARGEST_FLOAT16)
    return np.asarray(vectors).astype(np.float16)


def widened(halves: npt.NDArray[np.float16]) -> FloatArray:
    """Return finite float16 numbers as float32, four times as fast as NumPy does."""
    bits = np.ascontiguousarray(halves).view(np.int16).astype(np.int32)
    bits <<= 13  # mantissa and exponent lie where float32 has them, and the sign also in the three bits below its own
    bits &= _SIGN_EXPONENT_MANTISSA
    wide = bits.view(np.float32)
    wide *= _EXPONENT_BIASES  # subnormal numbers become what they were, too
    return wide


def packed(vectors: FloatArray, form: TokenForm) -> bytes:
    """Return the (t, dim) vectors of a text as the bytes that this module describes.

    Raises:
        ValueError: An element cannot be stored.
    """
    if form == "fp16":
        return halved(vectors).astype("<f2", copy=False).tobytes()
    numbers, scales = quantized(vectors)
    return scales.astype("<f4", copy=False).tobytes() + numbers.tobytes()


def unpacked(data: bytes | memoryview | npt.NDArray[np.uint8], form: TokenForm, dim: int) -> FloatArray:
    """Return the (t, dim) float32 vectors that bytes hold.

    Raises:
        ValueError: The bytes are no whole number of vectors of that size.
    """
    tokens, rest = divmod(len(data), bytes_per_vector(form, dim))
    if rest:
        raise ValueError(f"{len(data):,} bytes are no whole number of {form} vectors of {dim} dimensions")
    if form == "fp16":
        return widened(np.frombuffer(data, "<f2").astype(np.float16, copy=False).reshape(tokens, dim))
    scales = np.frombuffer(data, "<f4", count=tokens).astype(np.float32, copy=False)
    return dequantized(np.frombuffer(data, np.int8, offset=4 * tokens).reshape(tokens, dim), scales)


def bytes_per_vector(form: TokenForm, dim: int) -> int:
    """Return what a vector of `dim` dimensions takes."""
    return 2 * dim if form == "fp16" else dim + 4


def _check(largest: FloatArray, storable: npt.NDArray[np.bool_]) -> None:
    if not storable.all():
        bad = int(np.argmin(storable))
        raise ValueError(f"token vector {bad} has the element {largest[bad]:g}, which cannot be stored")
