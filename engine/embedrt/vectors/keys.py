"""What stands for a text where texts are looked up: a hash; of many texts a table of them, and no object for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
Keys: TypeAlias = NDArray[np.uint8]  # (N, KEY_BYTES)
Rows: TypeAlias = NDArray[np.int64]


def key_of(text: str) -> bytes:
    """A hash of KEY_BYTES."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def table_of(texts: Iterable[str]) -> Keys:
    """The keys (N, KEY_BYTES) of texts: 160 MB for ten million, of which a set takes 1.1 GB."""
    found = bytearray()
    for text in texts:
        found += key_of(text)
    return keys_in(found)


def keys_in(found: bytearray) -> Keys:
    """Keys (N, KEY_BYTES) that lie end to end; they are not copied."""
    return np.frombuffer(found, np.uint8).reshape(-1, KEY_BYTES)


def first_rows(keys: Keys) -> Rows:
    """(N,) for each row the first one with the same key."""
    halves = np.ascontiguousarray(keys).view(np.uint64)  # (N, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: rows of one key stay in their order
    halves = halves[order]
    new = np.ones(len(order), bool)
    new[1:] = (halves[1:] != halves[:-1]).any(axis=1)
    del halves
    first = np.empty(len(order), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def occurrences(keys: Keys) -> Rows:
    """(N,) for each row how many with the same key there are up to it, from 1."""
    first = first_rows(keys)
    order = np.argsort(first, kind="stable")
    starts = np.flatnonzero(np.diff(first[order], prepend=-1))
    found = np.empty(len(first), np.int64)
    found[order] = np.arange(1, len(first) + 1) - np.repeat(starts, np.diff(starts, append=len(first)))
    return found


def distinct_rows(first: Rows) -> Rows:
    """Of what `first_rows` gives the rows whose key no earlier one has, rising."""
    return np.flatnonzero(first == np.arange(len(first)))


def places_in(known: Keys, wanted: Keys) -> Rows:
    """(n,) the first row of `known` with each wanted key; -1 where none has it."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    first = first_rows(np.concatenate([known, wanted]))[len(known) :]
    return np.where(first < len(known), first, -1)
