"""The head of a masked language model: found in its class, and written beside each variant's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import describe_file
from embedrt.encoder import Norm
from embedrt.errors import UnsupportedModelError
from embedrt.format1 import ACTIVATIONS
from embedrt.manifest import TensorEntry, Variant
from embedrt.words import DECODER, NORM, TRANSFORM, NumpyWords
from embedrt_export.int8.calibration import InputStats, Session, batches
from embedrt_export.int8.linear import Fold, choose_fold, local_error, make_linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.weights import ALIGNMENT

Array = NDArray[Any]

FILE = "words.bin"
_TABLE = "embeddings.word"
_ROBERTA = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "gelu")
_PLACES: dict[str, tuple[str, str, str, str]] = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
             "hidden_act"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": _ROBERTA,
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector", "activation"),
    "modernbert": ("head.dense", "head.norm", "decoder", "classifier_activation"),
    "electra": ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head", "gelu"),
    "albert": ("predictions.dense", "predictions.LayerNorm", "predictions.decoder", "hidden_act"),
}  # fmt: skip
"""model_type -> modules of its ForMaskedLM class: the transform, its norm, the decoder; and the activation, or the
setting that names it."""
_MORE_ACTIVATIONS = {"silu": "silu", "swish": "silu", "quick_gelu": "quick_gelu"}
_GPTQ_NUMBERS = 1 << 26  # of a decoder; of a larger one the weights are rounded to nearest, which needs no copies of it
_SAMPLE_TEXTS = 64


@dataclass(frozen=True)
class WordWeights:
    """The head as arrays, by the names in `embedrt.words`, and what it computes."""

    arrays: dict[str, Array]  # float32; the decoder as (E, V)
    activation: str
    norm: Norm


def read_words(name: str, model: Any) -> WordWeights:
    """The head of a loaded transformers ForMaskedLM.

    Raises:
        UnsupportedModelError: its class is not one whose head is known.
    """
    kind = str(model.config.model_type)
    if kind not in _PLACES:
        raise UnsupportedModelError(
            f"{name}: the head of {type(model).__name__} is not known; known are those of {', '.join(_PLACES)}"
        )
    transform, norm, decoder, setting = _PLACES[kind]
    modules = [model.get_submodule(place) for place in (transform, norm, decoder)]
    activation = str(getattr(model.config, setting, setting))
    known: dict[str, str] = {**ACTIVATIONS, **_MORE_ACTIVATIONS}
    if activation not in known:
        raise UnsupportedModelError(f"{name}: its head has {activation}; known are {', '.join(known)}")
    arrays: dict[str, Array] = {}
    for place, module in zip((TRANSFORM, NORM, DECODER), modules, strict=True):
        weight, bias = module.weight.detach().float().numpy(), getattr(module, "bias", None)
        arrays[f"{NORM}.gamma" if place == NORM else f"{place}.weight"] = weight if place == NORM else weight.T
        if bias is not None:
            arrays[f"{NORM}.beta" if place == NORM else f"{place}.bias"] = bias.detach().float().numpy()
    return WordWeights(arrays, known[activation], Norm("layer", float(modules[1].eps)))


def word_rows(session: Session, words: WordWeights, calibration: Sequence[Any]) -> Array:
    """What the decoder reads of some calibration texts: (t, E)."""
    head = NumpyWords(words.arrays, words.activation, words.norm)
    step = max(1, len(calibration) // _SAMPLE_TEXTS)
    rows = []
    for batch in batches(calibration[::step]):
        outputs, mask = session.run(batch)
        hidden = next(iter(outputs.values()))
        rows.append(head.rows(hidden[mask]))
    return np.concatenate(rows)


def write_words(
    root: Path, name: str, variant: Variant, words: WordWeights, rows: Array, recipe: Int8Recipe
) -> Variant:
    """The variant `name` with the head's tensors in a file of its own, `rows` of `word_rows` to calibrate int8.

    A decoder that is the token table is left out where the variant has that in float.
    """
    arrays = dict(words.arrays)
    report: dict[str, Any] = {}
    if name == "int8":
        arrays, error = _to_int8(arrays, rows, recipe)
        report = {"words": {"local_error": error}}
    elif name == "fp16":
        arrays = {key: array.astype(np.float16) if array.ndim == 2 else array for key, array in arrays.items()}
    if name != "int8" and _is_table(root, variant, words.arrays[f"{DECODER}.weight"]):
        del arrays[f"{DECODER}.weight"]
    entries = _write(root / name / FILE, f"{name}/{FILE}", arrays)
    return replace(
        variant,
        files=(*variant.files, describe_file(root, f"{name}/{FILE}")),
        tensors=(*variant.tensors, *entries),
        recipe={**variant.recipe, **report},
    )


def _to_int8(arrays: dict[str, Array], rows: Array, recipe: Int8Recipe) -> tuple[dict[str, Array], float]:
    """The decoder in int8 per word; what it reads is smoothed in the norm before it."""
    weight = np.ascontiguousarray(arrays[f"{DECODER}.weight"])
    large = weight.size > _GPTQ_NUMBERS
    mine = replace(recipe, optimize=recipe.optimize and not large, gptq=recipe.gptq and not large)
    stats = InputStats.empty(rows.shape[1], with_gram=mine.gptq)
    stats.add(rows, len(rows))
    stats.finish()
    fold: Fold = choose_fold(stats, [weight], mine)
    bias = arrays.get(f"{DECODER}.bias", np.zeros(weight.shape[1], np.float32))
    linear = make_linear(weight, bias, fold, stats, mine)
    beta = arrays.get(f"{NORM}.beta", np.zeros(len(fold.scale), np.float32))
    out = {key: array for key, array in arrays.items() if not key.startswith((DECODER, NORM))}
    out |= {
        f"{NORM}.gamma": arrays[f"{NORM}.gamma"] / fold.scale,
        f"{NORM}.beta": (beta - fold.shift) / fold.scale,
        f"{DECODER}.weight": linear.quantized.weight,
        f"{DECODER}.scale": linear.quantized.scale,
        f"{DECODER}.bias": linear.bias,
    }
    return out, round(local_error(stats.sample, fold, linear), 6)


def _is_table(root: Path, variant: Variant, decoder: Array) -> bool:
    """Whether the decoder (E, V) is the variant's token table, transposed."""
    entry = next((entry for entry in variant.tensors if entry.name == _TABLE), None)
    if entry is None or entry.shape != decoder.shape[::-1] or entry.dtype not in ("float32", "float16"):
        return False
    table = np.memmap(root / entry.path, np.dtype(entry.dtype), "r", entry.offset, entry.shape)
    same = decoder.T.astype(table.dtype, copy=False)
    return all(np.array_equal(table[i : i + 4096], same[i : i + 4096]) for i in range(0, len(table), 4096))


def _write(path: Path, relative: str, arrays: dict[str, Array]) -> tuple[TensorEntry, ...]:
    entries = []
    with path.open("wb") as stream:
        for name, array in arrays.items():
            stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
            data = np.ascontiguousarray(array)
            entries.append(TensorEntry(name, data.dtype.name, data.shape, relative, stream.tell(), data.nbytes))
            stream.write(data.tobytes())
    return tuple(entries)
