"""What is done to a text's token ids before they are run, where an encoder wants more than its tokenizer gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class TextRules:
    """Of texts whose vectors are compared with pictures'; special tokens are among the ids."""

    ends_at: int | None  # what is behind the first place of this id is cut: its state is the text's vector
    padded_to: int | None  # the least tokens of a text; those added are read like all others
    pads_with: int | None  # their id
    pads_left: bool  # whether they stand before the text

    def shaped(self, ids: Ids) -> Ids:
        """Ids as the encoder was trained to read them: behind the end of a text nothing, or padding that is read."""
        if self.ends_at is not None and len(ends := np.flatnonzero(ids == self.ends_at)):
            ids = ids[: ends[0] + 1]
        missing = (self.padded_to or 0) - len(ids)
        sides = (missing, 0) if self.pads_left else (0, missing)
        return np.pad(ids, sides, constant_values=self.pads_with or 0) if missing > 0 else ids


@dataclass(frozen=True)
class TableRules:
    """Of an encoder without blocks, where a text may well have no token at all."""

    empty: int  # the id of a row of zeros, which stands for such a text
    skipped: int | None  # the id of tokens that are left out, which is model2vec's unknown one
    characters_per_token: int | None  # times the limit of tokens: so much of a text, prompt included, is read at all

    def shaped(self, ids: Ids) -> Ids:
        """Ids that the mean is of, at least one."""
        ids = ids if self.skipped is None else ids[ids != self.skipped]
        return ids if len(ids) else np.array([self.empty], np.int32)
