"""A short text to its vector in one call of the native module.

After the encoder has run, its weights have pushed everything else out of the caches, and each object that Python
touches costs a fetch from memory: the same steps, asked for one by one, take several times as long.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from embedrt.executors import Executor, Want
from embedrt.executors.library import WANTS_OF_MODULE, NativeEncoder
from embedrt.executors.native import NativeExecutor
from embedrt.executors.tokenizer import NativeTokenizer
from embedrt.pooling import l2_normalize

_SHORT_CHARACTERS = 256  # up to which a text is tokenized here, in the calling thread
_PROBES = 4


@dataclass(frozen=True)
class TextRecipe:
    """What becomes of a text: one row of the encoder's, normalized or not, cut, and that normalized or not."""

    prompt: str
    max_tokens: int  # over which it is not done here
    num_rows: int  # of the token table
    hidden_size: int
    want: Want  # not "all"
    normalize: bool
    dimension: int  # at most hidden_size
    normalize_kept: bool


class _Call(ctypes.Structure):
    _fields_ = (
        ("encoder", ctypes.c_void_p),
        ("tokenizer", ctypes.c_void_p),
        ("max_tokens", ctypes.c_int32),
        ("num_rows", ctypes.c_int32),
        ("hidden_size", ctypes.c_int32),
        ("want", ctypes.c_int32),
        ("normalize", ctypes.c_int32),
        ("dimension", ctypes.c_int32),
        ("normalize_kept", ctypes.c_int32),
    )


class TextCall:
    """A prepared call. Any number of threads may use one, and close the executor meanwhile."""

    __slots__ = ("_address", "_dtype", "_embed", "_executor", "_kept", "_longest", "_prompt", "_room")

    def __init__(
        self, executor: NativeExecutor, encoder: NativeEncoder, tokenizer: NativeTokenizer, recipe: TextRecipe
    ):
        struct = _Call(
            encoder.handle,
            tokenizer.handle,
            recipe.max_tokens,
            recipe.num_rows,
            recipe.hidden_size,
            WANTS_OF_MODULE[recipe.want],
            recipe.normalize,
            recipe.dimension,
            recipe.normalize_kept,
        )
        self._executor = executor
        self._kept = struct, tokenizer  # not the encoder, which the executor's close frees
        self._address = ctypes.addressof(struct)
        self._embed = encoder.library.embedrt_embed_text
        self._room = ctypes.c_float * recipe.dimension  # cheaper to make, and to hand to C, than numpy's
        self._dtype = np.dtype(np.float32)
        self._prompt = recipe.prompt
        self._longest = _SHORT_CHARACTERS - len(recipe.prompt)

    def vector(self, text: str) -> NDArray[np.float32] | None:
        """That of a text (D,), the caller's own; None where another way must say what it is, or what is wrong."""
        encoder = self._executor.encoder  # held: a call that runs finishes, whoever closes meanwhile
        if encoder is None or len(text) > self._longest:
            return None
        try:
            data = (self._prompt + text).encode()
        except UnicodeEncodeError:
            return None
        out = self._room()
        return (
            None
            if self._embed(self._address, data, len(data), out) < 0
            else np.frombuffer(memoryview(out), self._dtype)
        )


def prepare(executor: Executor, tokenizer: NativeTokenizer, recipe: TextRecipe) -> TextCall | None:
    """The call that does this; None where the executor is another, was closed, or numpy adds in another order here."""
    if not isinstance(executor, NativeExecutor) or (encoder := executor.encoder) is None:
        return None
    widths = [recipe.hidden_size] * recipe.normalize + [recipe.dimension] * recipe.normalize_kept
    if not all(_normalizes_alike(encoder.library, width) for width in widths):
        return None
    return TextCall(executor, encoder, tokenizer, recipe)


@cache
def _normalizes_alike(library: ctypes.CDLL, width: int) -> bool:
    """Whether the module's norm of rows so wide has the bits of numpy's, whose order of adding is its own matter."""
    rows = np.random.default_rng(width).standard_normal((_PROBES, width)).astype(np.float32)
    own = rows.copy()
    for row in own:
        library.embedrt_normalize(ctypes.c_void_p(row.ctypes.data), ctypes.c_int64(width))
    return own.tobytes() == l2_normalize(rows).tobytes()
