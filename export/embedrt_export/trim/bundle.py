"""What a smaller vocabulary changes in a bundle that is being made: its texts, its tokenizer, its manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embedrt.errors import OptionError, UnsupportedModelError
from embedrt.manifest import Manifest
from embedrt.parity.texts import builtin_texts
from embedrt_export.pipeline import encoder_of
from embedrt_export.reference import Reference
from embedrt_export.staged_manifest import TOKENIZER
from embedrt_export.tower_source import TowerModel
from embedrt_export.trim import Kept, Trimmed, trimmed

_OWN_TEXTS, _FEWEST_TEXTS = 200, 20  # of the user's own that a trimmed bundle is proven on; of all that it takes


def smaller_vocabulary(root: Path, manifest: Manifest, reference: Reference | TowerModel, kept: Kept) -> Trimmed | None:
    """The vocabulary that was asked for, where one was.

    Raises:
        OptionError: a token that is to be kept is not in the vocabulary.
        UnsupportedModelError: this kind of model, or its tokenizer, cannot be trimmed.
    """
    if not kept:
        return None
    if isinstance(reference, TowerModel):
        raise UnsupportedModelError("tokens of a model that embeds pictures too cannot be left out yet")
    if manifest.sparse is not None or manifest.tokens is not None:
        raise UnsupportedModelError("tokens of a model with sparse vectors or vectors of tokens cannot be left out")
    tokenizer = (root / TOKENIZER).read_text(encoding="utf-8")
    rows = encoder_of(reference.model).get_input_embeddings().weight.shape[0]
    prompts = [text.replace("{task}", "") for text in manifest.prompts.texts.values()]
    return trimmed(tokenizer, kept, [*prompts, manifest.prompts.default_task or ""], rows)


def surviving_texts(smaller: Trimmed, prompt: str) -> list[str]:
    """What a trimmed bundle is proven on: built-in texts of its tokens, and the user's own.

    Raises:
        OptionError: they are too few.
    """
    texts = list(dict.fromkeys([*smaller.survivors(builtin_texts(), prompt), *smaller.texts[:_OWN_TEXTS]]))
    if len(texts) < _FEWEST_TEXTS:
        raise OptionError(
            f"only {len(texts)} texts keep their tokens, too few to prove the bundle on: give {_FEWEST_TEXTS} or more "
            "of your own by --keep-texts"
        )
    return texts


def with_fewer_tokens(root: Path, manifest: Manifest, smaller: Trimmed) -> Manifest:
    """The manifest of a bundle with the smaller vocabulary, whose tokenizer takes the other's place."""
    (root / TOKENIZER).write_text(smaller.tokenizer, encoding="utf-8")
    count, old = len(smaller.rows), manifest.architecture
    pad = smaller.new_id(old.pad_token_id) if old.pad_token_id in smaller.rows else 0
    spec = manifest.encoder
    return replace(
        manifest,
        architecture=replace(old, vocab_size=count, pad_token_id=pad),
        encoder=None if spec is None else replace(spec, vocab_size=count),
        notes=(*manifest.notes, smaller.note),
    )
