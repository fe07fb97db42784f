"""A bundle with fewer tokens: rows of the token table that its texts never look up are left out.

What is kept is asked for by languages (all tokens in their scripts), by tokens, or by texts (all tokens they become);
always kept are special and added tokens, bytes, and single characters of the scripts asked for. A text whose tokens are
all kept is cut into the same ones, and each has the same row: its vector has the same bits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedrt.errors import OptionError
from embedrt_export.calibration import read_texts
from embedrt_export.trim.scripts import COMMON, script_of, scripts_of
from embedrt_export.trim.tokenizer import Vocabulary, ids_of, read_vocabulary, survives, trim, with_parts

_FIRST_IDS = 8  # padding and the like: positions of RoBERTa's kind count from the id of padding


@dataclass(frozen=True)
class Kept:
    """What to keep, as the command line says it; checked before any work is done."""

    languages: tuple[str, ...] = ()
    tokens: Path | None = None
    texts: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.languages or self.tokens or self.texts)

    def check(self) -> None:
        """Raise OptionError for a language that is not known, or a file that cannot be read."""
        scripts_of(self.languages)
        if self.tokens is not None:
            _read_tokens(self.tokens)
        if self.texts is not None:
            read_texts(self.texts, "--keep-texts")


@dataclass(frozen=True)
class Trimmed:
    """A smaller vocabulary."""

    before: str  # tokenizer.json
    tokenizer: str  # the smaller one
    rows: NDArray[np.int64]  # (V',), the old id of each new one
    texts: tuple[str, ...]  # the user's own
    note: str

    def survivors(self, texts: Sequence[str], prompt: str = "") -> list[str]:
        """The texts that keep their tokens behind a prompt."""
        old, new = (Tokenizer.from_str(text) for text in (self.before, self.tokenizer))
        whole = [prompt + text for text in texts]
        pairs = zip(texts, ids_of(old, whole), ids_of(new, whole), strict=True)
        return [text for text, before, after in pairs if survives(before, after, self.rows)]

    def new_id(self, old: int) -> int:
        """The new id of a token that is kept."""
        return int(np.flatnonzero(self.rows == old)[0])


def trimmed(tokenizer: str, kept: Kept, prompts: Sequence[str], num_rows: int) -> Trimmed:
    """The vocabulary that `kept` asks for.

    Args:
        tokenizer: tokenizer.json.
        kept: what to keep.
        prompts: texts that go before others, whose tokens are kept.
        num_rows: of the token table; tokens without a row go.

    Raises:
        OptionError: a token of the file is not in the vocabulary.
        UnsupportedModelError: the tokenizer cannot be trimmed.
    """
    vocabulary = read_vocabulary(tokenizer)
    loaded = Tokenizer.from_str(tokenizer)
    texts = tuple(read_texts(kept.texts, "--keep-texts")) if kept.texts is not None else ()
    own = ids_of(loaded, texts)
    scripts = set(scripts_of(kept.languages)) if kept.languages else set()
    asked = _named(vocabulary, kept) | {i for ids in (*own, *ids_of(loaded, ["", *prompts])) for i in ids}
    whole = {i for token, i in vocabulary.ids.items() if scripts and _within(vocabulary.text_of(token), scripts)}
    spelled = {
        script_of(c) for token, i in vocabulary.ids.items() if i in asked for c in vocabulary.text_of(token) or ""
    }
    always = {
        i for token, i in vocabulary.ids.items() if _is_always_kept(vocabulary, token, i, scripts | spelled | {COMMON})
    }
    ids = {i for i in with_parts(vocabulary, asked | whole | always) if i < num_rows}
    smaller, rows = trim(vocabulary, ids)
    return Trimmed(tokenizer, smaller, rows, texts, _note(kept, len(rows), num_rows, own, whole | always))


def _note(kept: Kept, rows: int, before: int, own: Sequence[Sequence[int]], anyway: set[int]) -> str:
    said = [f"languages {','.join(kept.languages)}"] if kept.languages else []
    said += [f"tokens of {kept.tokens.name}"] if kept.tokens else []
    said += [f"texts of {kept.texts.name}"] if kept.texts else []
    note = f"{rows:,} of {before:,} tokens are kept ({'; '.join(said)}): texts of these have the same vectors as before"
    if not own:
        return note
    # Left out one at a time, a text survives where others have all its tokens: what further texts may expect.
    seen = Counter(i for ids in own for i in set(ids))
    further = sum(all(seen[i] > 1 or i in anyway for i in ids) for ids in own)
    return (
        f"{note}; all {len(own):,} given texts keep their tokens, and of further ones of their kind about "
        f"{100 * further / len(own):.1f} % will (each of the given ones, left out in turn)"
    )


def _named(vocabulary: Vocabulary, kept: Kept) -> set[int]:
    names = _read_tokens(kept.tokens) if kept.tokens is not None else []
    missing = [name for name in names if name not in vocabulary.ids]
    if missing:
        raise OptionError(f"--keep-tokens: {missing[0]!r} is no token of this model ({len(missing)} are not)")
    return {vocabulary.ids[name] for name in names}


def _is_always_kept(vocabulary: Vocabulary, token: str, number: int, scripts: set[str]) -> bool:
    if number < _FIRST_IDS or number in vocabulary.added or vocabulary.is_byte(token):
        return True
    text = vocabulary.text_of(token)
    if text is None:
        return True  # bytes of a part of a character
    return len(text) <= 1 and (text.isascii() or script_of(text) in scripts)


def _within(text: str | None, scripts: set[str]) -> bool:
    return text is not None and all(script_of(character) in scripts for character in text)


def _read_tokens(file: Path) -> list[str]:
    """A token a line, as the vocabulary spells it, or a JSON list of them."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = json.loads(text) if text.lstrip().startswith("[") else [line for line in text.split("\n") if line]
    except (OSError, ValueError) as exc:
        raise OptionError(f"--keep-tokens {file} cannot be read: {exc}") from exc
    if not names or not all(isinstance(name, str) for name in names):
        raise OptionError(f"--keep-tokens {file} must hold a token a line, or a JSON list of tokens")
    return list(names)
