"""Rows of texts that come again: so many bytes of them, and those leave first that nobody has asked for longest."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENTRY_BYTES = 400  # of an entry besides its row: key, array, and their places
_DIGEST_BYTES = 32  # too many for anybody to find two texts of one key
_SLICE_TEXTS = 256  # looked up in one go: a fraction of a millisecond

Row = NDArray[np.float32]
Ids = NDArray[Any]


class RowCache:
    """One model's rows by what decides them: token ids, prompt included, and the sort of run. For the event loop only.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: bytes) -> Row | None:
        """The row, read-only; None where it is not there."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def keep(self, key: bytes, row: Row) -> None:
        """Remember a copy of the row, and forget others for it."""
        size = row.nbytes + _ENTRY_BYTES
        if key in self._rows or size > self._limit:
            return
        kept = row.copy()  # it is a part of a batch, all of which it would keep
        kept.flags.writeable = False
        self._rows[key] = kept
        self.held_bytes += size
        while self.held_bytes > self._limit:
            _, old = self._rows.popitem(last=False)
            self.held_bytes -= old.nbytes + _ENTRY_BYTES

    async def rows(
        self, token_ids: Sequence[Ids], sort: Hashable, compute: Callable[[list[Ids]], Awaitable[list[Row]]]
    ) -> list[Row]:
        """A row for each text, of which those are computed that are not here.

        Args:
            token_ids: of each text, int32.
            sort: whatever else decides a row, or must not be shared; values of which `repr` says all.
            compute: rows of some of the texts.
        """
        key_of = keys_of(sort)
        keys: list[bytes] = []
        for begin in range(0, len(token_ids), _SLICE_TEXTS):
            if begin:
                await asyncio.sleep(0)
            keys += map(key_of, token_ids[begin : begin + _SLICE_TEXTS])
        found = {k: row for k, row in enumerate(map(self.find, keys)) if row is not None}
        missing = [k for k in range(len(keys)) if k not in found]
        if missing:
            made = await compute([token_ids[k] for k in missing])
            for k, row in zip(missing, made, strict=True):
                self.keep(keys[k], row)
                found[k] = row
        return [found[k] for k in range(len(keys))]


def keys_of(sort: Hashable) -> Callable[[Ids], bytes]:
    """What gives a text's key by its token ids; other keys for another sort."""
    secret = hashlib.blake2b(repr(sort).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
    begun = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=secret)

    def key_of(ids: Ids) -> bytes:
        hashed = begun.copy()
        hashed.update(np.ascontiguousarray(ids, np.int32).data)
        return hashed.digest()

    return key_of
