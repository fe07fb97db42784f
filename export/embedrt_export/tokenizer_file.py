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

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer

from embedrt.parity.texts import builtin_texts, shorten

_FILE = "tokenizer.json"


def settle_tokenizer(tokenizer: Any) -> tuple[str, ...]:
    """Give a loaded transformers tokenizer what it lost of its directory's tokenizer.json.

    Returns:
        Notes on texts that get other ids from the file, if there are any, and which of the two counts.
    """
    file = Path(str(getattr(tokenizer, "name_or_path", ""))) / _FILE
    if not getattr(tokenizer, "is_fast", False) or not file.is_file():
        return ()
    wanted, backend = Tokenizer.from_file(str(file)), tokenizer.backend_tokenizer
    for one in (wanted, backend):  # of each call to transformers, not of the tokenizer
        one.no_truncation()
        one.no_padding()
    if wanted.to_str() == backend.to_str():
        return ()
    texts = builtin_texts()
    ids = _ids(wanted, texts)
    before = after = _differing(ids, _ids(backend, texts))
    if wanted.normalizer is not None and backend.normalizer is None:
        backend.normalizer = wanted.normalizer
        after = _differing(ids, _ids(backend, texts))
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


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Of each text, special tokens included."""
    return [found.ids for found in tokenizer.encode_batch(list(texts))]


def _differing(one: list[list[int]], other: list[list[int]]) -> list[int]:
    return [k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
