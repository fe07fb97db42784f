"""Whether the tokenizer that the reference loads is the directory's own tokenizer.json, and which of the two counts.

Classes of transformers 5 (XLM-R's, BERT's, Llama's) build a tokenizer of the vocabulary and of a few settings, and
leave the rest of tokenizer.json out. Where that changes the ids of texts, one of two things has happened:

- Settings beside the file say so (do_lower_case, add_bos_token, ...). The library that the model was trained and
  published with obeys them too, so the reference is right.
- A step was lost, as a normalizer that the class does not know. Nobody asked for that, the same directory gives other
  ids with another version of transformers, and the model was trained on the file's. So the file counts, and the
  reference gets it: parity is then of the model as it was published.

A lost step is told from a setting by what is left: a normalizer in the file, and none at all in what was loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer

from embedrt.parity.texts import builtin_texts, shorten

_FILE = "tokenizer.json"
_CHANGING = ("truncation", "padding")  # of each call, not of the tokenizer


def settle_tokenizer(tokenizer: Any) -> tuple[str, ...]:
    """Give a loaded transformers tokenizer what it lost of its directory's tokenizer.json.

    Returns:
        Notes on texts that get other ids from the file, if there are any, and which of the two counts.
    """
    file = Path(str(getattr(tokenizer, "name_or_path", ""))) / _FILE
    if not getattr(tokenizer, "is_fast", False) or not file.is_file():
        return ()
    text = file.read_text(encoding="utf-8")
    backend, texts = tokenizer.backend_tokenizer, builtin_texts()
    own, loaded = (_lasting(json.loads(one)) for one in (text, backend.to_str()))
    if own == loaded:
        return ()
    wanted = _ids(text, texts)
    before = after = _differing(wanted, _ids(backend.to_str(), texts))
    if own.get("normalizer") is not None and loaded.get("normalizer") is None:
        backend.normalizer = Tokenizer.from_str(text).normalizer
        after = _differing(wanted, _ids(backend.to_str(), texts))
    called = f"{type(tokenizer).__name__} of transformers {transformers.__version__}"
    lost = f"{called} left out the normalizer of {_FILE}, which the reference was given back"
    other = f"{called} reads {_FILE} otherwise by its settings, which count"
    return (*_note(before, after, texts, lost), *_note(after, [], texts, other))


def _note(first: list[int], second: list[int], texts: Sequence[str], said: str) -> tuple[str, ...]:
    """What became of the texts that are in the first list and not in the second."""
    gone = [k for k in first if k not in second]
    if not gone:
        return ()
    return (
        f"{said}: {len(gone)} of {len(texts)} built-in texts would have other token ids, the first is "
        f"{shorten(texts[gone[0]])!r}",
    )


def _ids(text: str, texts: Sequence[str]) -> list[list[int]]:
    """Of each text by a tokenizer.json, special tokens included."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [found.ids for found in tokenizer.encode_batch(list(texts))]


def _differing(one: list[list[int]], other: list[list[int]]) -> list[int]:
    return [k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]


def _lasting(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in _CHANGING}
