"""Token ids of texts: natively where they are certain to be the tokenizers library's, else by the library itself.

The library's tables of XLM-R's 250,002 pieces take 280 MB and 0.6 s under the GIL. So it is read when a text or a
question first needs it, which for the tokenizers that the native one follows is seldom.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import BundleFormatError, BundleIntegrityError
from embedrt.executors.tokenizer import NativeTokenizer, read_tokenizer
from embedrt.stamps import stamp_of
from embedrt.tokenizer_json import PairParts, pair_of

Ids = NDArray[np.int32]
Special = tuple[list[int], list[int]]  # before a text, and after it


class Added(NamedTuple):
    """A token that is found in the text as it is, spaces beside it included where it says so."""

    content: str
    lstrip: bool
    rstrip: bool


@dataclass(frozen=True)
class Pipeline:
    """What a tokenizer.json says beside its vocabulary; kinds and their settings by its own names."""

    normalizer: Mapping[str, Any] | None
    pre_tokenizer: Mapping[str, Any] | None
    added: tuple[Added, ...]
    bpe_pieces: Callable[[], Collection[str]] | None  # of a BPE model, without added tokens


class TokenIds:
    """The ids of a tokenizer.json, never cut and never padded. Several threads may use it at once.

    Args:
        path: of the tokenizer.json.
        before_library: called before the library reads it at once, which it does where it is not followed natively.

    Raises:
        BundleFormatError: the library cannot read it.
    """

    def __init__(self, path: Path, before_library: Callable[[], object] = lambda: None) -> None:
        self._path = path
        self._seen = stamp_of(path)
        self._lock = Lock()
        self._library: Any = None
        self.native: NativeTokenizer | None = read_tokenizer(path)
        if self.native is None:
            before_library()
            self._library = _read_library(path)

    @property
    def is_native(self) -> bool:
        """Whether the library is needed for some texts only."""
        return self.native is not None

    @property
    def library(self) -> Any:
        """The `tokenizers.Tokenizer`, read now if it was not yet.

        Raises:
            BundleIntegrityError: the file is another one than it was at first.
        """
        with self._lock:
            if self._library is None:
                if stamp_of(self._path) != self._seen:
                    raise BundleIntegrityError(f"{self._path} was changed while it was in use; load the bundle again")
                self._library = _read_library(self._path)
            return self._library

    def one(self, text: str) -> Ids:
        """Ids (n,) of one checked text, special tokens included."""
        found = None if self.native is None else self.native.one(text)
        return np.array(self.library.encode(text).ids, np.int32) if found is None else found

    def several(self, texts: Sequence[str], *, special: bool = True) -> list[Ids]:
        """Ids (n,) of each checked text, with special tokens or without; releases the GIL."""
        if self.native is None:
            return self._by_library(texts, special)
        found = self.native(texts, special=special)
        missing = [k for k, ids in enumerate(found) if ids is None]
        others = dict(zip(missing, self._by_library([texts[k] for k in missing], special), strict=True))
        return [others[k] if ids is None else ids for k, ids in enumerate(found)]

    def _by_library(self, texts: Sequence[str], special: bool) -> list[Ids]:
        if not texts:
            return []
        found = self.library.encode_batch_fast(list(texts), add_special_tokens=special)
        return [np.array(encoding.ids, np.int32) for encoding in found]

    def special(self) -> Special | None:
        """The special tokens before and after a text: what surrounds the bare ids of a probe text."""
        bare, whole = (ids.tolist() for special in (False, True) for ids in self.several(["a"], special=special))
        for start in range(len(whole) - len(bare), -1, -1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        return None

    def pair_parts(self) -> PairParts:
        """What stands around the two texts of a pair.

        Raises:
            BundleFormatError: the tokenizer gives nothing of them.
        """
        known = None if self.native is None else pair_of(self.native.config["post_processor"])
        if known is not None:
            return known
        encoding = self.library.encode("a", "b")
        ids, owners = encoding.ids, encoding.sequence_ids
        one = [k for k, owner in enumerate(owners) if owner == 0]
        two = [k for k, owner in enumerate(owners) if owner == 1]
        if not one or not two:
            raise BundleFormatError("the tokenizer gives no tokens of a pair's texts; export the bundle again")
        before, between, after = ids[: one[0]], ids[one[-1] + 1 : two[0]], ids[two[-1] + 1 :]
        return PairParts(before, between, after, encoding.type_ids[one[-1] + 1 : two[0]].count(0))

    @property
    def pipeline(self) -> Pipeline:
        """What the tokenizer.json says."""
        if self.native is not None:
            config = self.native.config
            added = tuple(Added(one["content"], one["lstrip"], one["rstrip"]) for one in config["added_tokens"])
            return Pipeline(config["normalizer"], config["pre_tokenizer"], added, None)
        library = self.library
        added = tuple(Added(one.content, one.lstrip, one.rstrip) for one in library.get_added_tokens_decoder().values())
        has_merges = type(library.model).__name__ == "BPE"
        pieces = (lambda: library.get_vocab(with_added_tokens=False)) if has_merges else None
        return Pipeline(_said(library.normalizer), _said(library.pre_tokenizer), added, pieces)


def _said(component: Any) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = None if component is None else json.loads(component.__getstate__())
    return found


def _read_library(path: Path) -> Any:
    import tokenizers  # a tenth of a second, and 10 MB

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as exc:  # tokenizers raises plain Exception
        raise BundleFormatError(f"{path} cannot be read by tokenizers {tokenizers.__version__}: {exc}") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
