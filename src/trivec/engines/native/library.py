"""The compiled kernels, called through ctypes: their structures, a pool of threads, and the two functions.

The library is made when the package is built, where there is a C compiler (see hatch_build.py); it uses nothing of
Python's, so one file serves every Python. Knows addresses; nothing of checkpoints or texts.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FILE = Path(__file__).with_name("libtrivec.so")
# Rows are as long as a multiple of this many elements: `PANEL` in encoder.h.
PANEL = 16

_ERROR = "the encoder ran out of memory: encode shorter texts or fewer at once"


def padded(width: int) -> int:
    """The length in memory of a row of `width` elements."""
    return -(-width // PANEL) * PANEL


class Product(ctypes.Structure):
    """`product_t`."""

    _fields_ = (
        ("type", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("weight", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("input_weight", c_void_p),
        ("input_bias", c_void_p),
    )


class Norm(ctypes.Structure):
    """`norm_t`."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class Layer(ctypes.Structure):
    """`layer_t`."""

    _fields_ = (
        ("qkv", Product),
        ("attended", Product),
        ("inner", Product),
        ("outer", Product),
        ("attended_norm", Norm),
        ("outer_norm", Norm),
    )


class Model(ctypes.Structure):
    """`model_t`."""

    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("intermediate", c_int32),
        ("epsilon", c_float),
        ("embedding_norm", Norm),
        ("layer", POINTER(Layer)),
    )


def why_missing() -> str | None:
    """Why the library cannot be called: it is not there, or the system cannot load it; None if it can.

    It is loaded, so ask only where the processor has AVX2.
    """
    if not FILE.is_file():
        return "this trivec was built without the native engine's kernels"
    try:
        _library()
    except OSError as error:  # such as one that was built against a newer C library
        return f"the native engine's kernels cannot be loaded ({error})"
    return None


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(FILE))
    library.trivec_pool_new.argtypes = [c_int]
    library.trivec_pool_new.restype = c_void_p
    library.trivec_pool_free.argtypes = [c_void_p]
    library.trivec_pool_free.restype = None
    library.trivec_pool_trim.argtypes = [c_void_p]
    library.trivec_pool_trim.restype = None
    library.trivec_encode.argtypes = [c_void_p, POINTER(Model), c_void_p, c_void_p, c_int32, c_void_p]
    library.trivec_linear.argtypes = [c_void_p, POINTER(Product), c_void_p, c_int32, c_void_p]
    return library


class Pool:
    """Threads that compute together; one call at a time."""

    def __init__(self, threads: int) -> None:
        """Start them. Raises MemoryError if there is no memory for them or the system gives no more threads."""
        self._library = _library()
        # ctypes would cut a larger number off without a word
        self._pool: Any = self._library.trivec_pool_new(min(threads, 2**31 - 1))
        if not self._pool:
            raise MemoryError(f"{threads} threads to compute with cannot be started")
        self._end = weakref.finalize(self, _free, self._pool, os.getpid())
        self._end.atexit = False

    def encode(
        self, model: Model, embeddings: npt.NDArray[np.float32], lengths: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        """Run the encoder on a batch of texts, one behind the other.

        Args:
            model: The encoder.
            embeddings: Sums of word, position and type, (tokens, hidden), contiguous.
            lengths: Tokens of each text.

        Returns:
            The last hidden states, (tokens, hidden), rows `padded(hidden)` apart.

        Raises:
            MemoryError: There is not enough.
        """
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        hidden = np.empty((len(embeddings), padded(model.hidden)), np.float32)
        failed = self._library.trivec_encode(
            self._pool, model, embeddings.ctypes.data, starts.ctypes.data, len(lengths), hidden.ctypes.data
        )
        if failed:
            raise MemoryError(_ERROR)
        return hidden[:, : model.hidden]

    def linear(self, product: Product, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return rows @ weight.T + bias, (n, outputs), for rows as `encode` gives them."""
        out = np.empty((len(rows), padded(product.outputs)), np.float32)
        if self._library.trivec_linear(self._pool, product, rows.ctypes.data, len(rows), out.ctypes.data):
            raise MemoryError(_ERROR)
        return out[:, : product.outputs]

    def trim(self) -> None:
        """Give back the memory that threads keep from call to call."""
        self._library.trivec_pool_trim(self._pool)

    def close(self) -> None:
        """End the threads."""
        self._pool = None
        self._end()


def _free(pool: int, process: int) -> None:
    """End a pool's threads, also of an engine that nobody closed; a forked child has none of them to wait for."""
    if process == os.getpid():
        _library().trivec_pool_free(pool)
