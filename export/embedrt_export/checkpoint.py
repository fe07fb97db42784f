"""A transformers checkpoint on disk: the files that hold it, whether they are whole, and whether its names are the
encoder's.

transformers fills weights that a checkpoint lacks with random numbers, and drops those that it has no place for; both
give other vectors than the model's, and are errors here for every format.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.errors import SourceError

FORMATS = (
    ("model.safetensors", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*-of-*.bin"),
)
"""A checkpoint's one file and the pattern of its shards, in the order in which transformers looks for them; the index
of the shards is the one file's name and ".index.json"."""

_NOT_READ = (".gguf", ".h5", ".msgpack", ".ot", ".onnx")  # weights of other programs

# Inside an encoder: what a checkpoint may lack, or have left over, without changing a text's vector.
_NOT_NEEDED = (
    r"(^|\.)pooler\.",  # the dense layer behind BERT's first token; no sentence embedding reads it
    r"(^|\.)(position_ids|token_type_ids)$",  # 0, 1, 2, ... and zeros, which old versions saved
    r"(^|\.)inv_freq$",  # rotary frequencies, computed from the config
    r"(^|\.)num_batches_tracked$",  # a counter of training
)
# Heads of pre-training that stand beside the encoder where its own names have no prefix.
_HEADS = r"^(cls|lm_head|mlm_head|head|decoder|predictions|generator_\w+|discriminator_predictions|vocab_\w+)\."


@dataclass(frozen=True)
class Difference:
    """Names that do not fit, sorted."""

    missing: tuple[str, ...]  # of the encoder, not in the checkpoint
    left_over: tuple[str, ...]  # in the checkpoint's encoder, without a place


def find_checkpoint(folder: Path) -> tuple[Path, ...]:
    """The files of the checkpoint that transformers would load from `folder`; whole, as far as their format can say.

    Raises:
        SourceError: there is none, or a file is missing, truncated or a pointer to itself.
    """
    for one, _shards in FORMATS:
        index = folder / f"{one}.index.json"
        if (folder / one).is_file():
            files: tuple[Path, ...] = (folder / one,)
        elif index.is_file():
            files = tuple(folder / name for name in sorted(_shards_of(index)))
        else:
            continue
        for file in files:
            _check_file(file)
        return files
    other = sorted(path.name for path in folder.iterdir() if path.suffix in _NOT_READ)
    if other:
        raise SourceError(
            f"{folder} holds weights of another program only ({other[0]}); give the model's PyTorch directory, with "
            "model.safetensors or pytorch_model.bin"
        )
    raise SourceError(f"{folder} holds no weights (model.safetensors or pytorch_model.bin); download the model again")


def tensor_names(files: Iterable[Path]) -> frozenset[str]:
    """Names of all tensors in the files of a checkpoint; no weight is read.

    Raises:
        SourceError: a pickle is damaged, or holds more than tensors.
    """
    names: set[str] = set()
    for file in files:
        names |= set(_header(file)[0]) - {"__metadata__"} if file.suffix == ".safetensors" else _pickled_names(file)
    return frozenset(names)


def compare_names(
    stored: Set[str], wanted: Sequence[Set[str]], prefix: str = "", ignored: Sequence[str] = ()
) -> Difference:
    """Which names of an encoder a checkpoint lacks, and which of its own it has beyond.

    Args:
        stored: the checkpoint's names.
        wanted: the encoder's; the names of one tied weight are a group, of which one is enough.
        prefix: of the encoder's names in the checkpoint of a whole task, "bert" in BertForMaskedLM.
        ignored: more patterns of what may be left over, as the encoder's class states them.
    """
    prefixed = {name for name in stored if prefix and name.startswith(f"{prefix}.")}
    outside = {modern_name(name) for name in stored - prefixed} if prefixed else set()
    inside = {modern_name(name.removeprefix(f"{prefix}.") if prefixed else name) for name in prefixed or stored}
    fine = re.compile("|".join((*_NOT_NEEDED, *ignored, *(() if prefixed else (_HEADS,)))))
    known = set().union(*wanted)
    missing = [min(group) for group in wanted if not group & inside and not fine.search(min(group))]
    left = [name for name in inside - known if not fine.search(name)]
    # Beside names with the prefix, those without it are a task's head, unless they are the encoder's own once more.
    return Difference(tuple(sorted(missing)), tuple(sorted((*left, *(outside & known)))))


def check_complete(model: str, encoder: Any, stored: Set[str]) -> None:
    """Refuse a loaded transformers encoder of which a checkpoint with the names `stored` is not the whole.

    Raises:
        SourceError: weights are missing or left over; the message counts them and names the first.
    """
    groups: dict[int, set[str]] = {}
    for name, tensor in encoder.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), set()).add(name)
    prefix = str(encoder.base_model_prefix)
    found = [
        compare_names(
            stored,
            wanted,
            "" if hasattr(encoder, prefix) else prefix,
            getattr(encoder, "_keys_to_ignore_on_load_unexpected", None) or (),
        )
        for wanted in (list(groups.values()), _converted(encoder))
    ]
    check_difference(model, min(found, key=lambda one: len(one.missing) + len(one.left_over)), len(groups))


def _converted(encoder: Any) -> list[set[str]]:
    """The encoder's names in the checkpoints of the code that it was written for, from which transformers 5 converts.

    The conversion is undone for tensors without data: three weights may have been one, and names alone do not say so.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before 5
        return []
    state = {name: tensor.to("meta") for name, tensor in encoder.state_dict().items()}
    return [{name} for name in revert_weight_conversion(encoder, state)]


def check_difference(model: str, found: Difference, wanted: int) -> None:
    """Refuse names that do not fit; `wanted` is how many the encoder has.

    Raises:
        SourceError: weights are missing or left over; the message counts them and names the first.
    """
    if found.missing:
        raise SourceError(
            f"{model}: its checkpoint lacks {len(found.missing)} of the encoder's {wanted} weights, the first is "
            f"{found.missing[0]}; it belongs to another architecture than config.json says, or is damaged"
        )
    if found.left_over:
        raise SourceError(
            f"{model}: its checkpoint has {len(found.left_over)} weights for which config.json has no place, the first "
            f"is {found.left_over[0]}; leaving them out would give other vectors than the model's. config.json belongs "
            "to another model, or has been changed"
        )


def modern_name(name: str) -> str:
    """The name as transformers reads it: TensorFlow's names of a norm's weights are taken for its own."""
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))


def _shards_of(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as exc:
        raise SourceError(f"{index} cannot be read: {exc}; download the model again") from exc


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise SourceError(f"{file} is missing; download the model again")
    with file.open("rb") as stream:
        if stream.read(64).startswith(b"version https://git-lfs"):
            raise SourceError(f"{file} is Git LFS's pointer to the weights, not the weights: git lfs pull")
    if file.suffix == ".safetensors":
        _check_length(file)


def _check_length(file: Path) -> None:
    """The header says how long the file must be (safetensors' format: u64 length, JSON, then the data)."""
    header, start = _header(file)
    size = file.stat().st_size
    end = start + max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    if end != size:
        raise SourceError(f"{file} is truncated: it has {size} bytes and should have {end}; download it again")


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the data begins behind it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = int.from_bytes(stream.read(8), "little")
        if size < 8 or head > size:
            raise SourceError(f"{file} is truncated or no safetensors file ({size} bytes); download it again")
        try:
            header: dict[str, Any] = json.loads(stream.read(head))
        except ValueError as exc:
            raise SourceError(f"{file} has a damaged header; download it again") from exc
    return header, 8 + head


def _pickled_names(file: Path) -> set[str]:
    """The names in a pickle of tensors, which are mapped, not read, where torch can."""
    import torch

    try:
        state = torch.load(file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as exc:
        raise SourceError(
            f"{file} cannot be read, or holds other Python objects than tensors, which are never loaded; download it "
            "again, or save the model as safetensors with its own program"
        ) from exc
    except (RuntimeError, OSError, EOFError, ValueError) as exc:
        raise SourceError(f"{file} is truncated or damaged; download it again") from exc
    if not isinstance(state, dict):
        raise SourceError(f"{file} holds a {type(state).__name__}, not weights by name")
    return set(state)
