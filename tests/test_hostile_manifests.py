"""Manifests that somebody made up: each is refused by our own error, with its place."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedrt._manifest_checks import _object
from embedrt._schema import SchemaError
from embedrt.errors import BundleFormatError
from embedrt.manifest_json import parse_manifest
from tests.encoders import make_spec
from tests.handmade import write_bundle


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("handmade")
    write_bundle(root)
    data: dict[str, Any] = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    return data


@pytest.fixture
def data(manifest: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(manifest)


def tensor(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["variants"]["fp32"]["tensors"][0]
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["architecture"].update(num_layers=0), "architecture.num_layers: must be at least 1"),
        (lambda d: d["architecture"].update(hidden_size=-32), "architecture.hidden_size"),
        (lambda d: d["architecture"].update(vocab_size=2**70), "architecture.vocab_size"),
        (lambda d: d["architecture"].update(num_heads=64), "architecture.num_heads: must not be more than hidden_size"),
        (lambda d: d["architecture"].update(layer_norm_eps=-1.0), "architecture.layer_norm_eps"),
        (lambda d: d.update(max_tokens=0), "max_tokens: must be at least 1"),
        (lambda d: d.update(max_tokens=65), "max_tokens: must be at most 64, the model's positions, not 65"),
        (lambda d: d["pipeline"].update(dimension=0), "pipeline.dimension"),
        (lambda d: d["files"][0].update(size=-1), "files[0].size"),
        (lambda d: d["files"][0].update(sha256="0" * 63), "files[0].sha256: must be 64 hex digits"),
        (lambda d: d["files"][0].update(sha256="Z" * 64), "files[0].sha256"),
        (lambda d: tensor(d).update(shape=[2**32, 2**32]), "variants.fp32.tensors[0].size"),
        (lambda d: tensor(d).update(shape=[-32, -32]), "variants.fp32.tensors[0].shape"),
        (lambda d: tensor(d).update(shape=[0, 2**70]), "variants.fp32.tensors[0].shape"),
        (lambda d: tensor(d).update(shape=[2**62] * 1000), "variants.fp32.tensors[0].shape: has more than 32 axes"),
        (lambda d: tensor(d).update(dtype="object"), "variants.fp32.tensors[0].dtype: 'object' is not one of"),
        (lambda d: tensor(d).update(size=1), "variants.fp32.tensors[0].size: must be 4096"),
        (lambda d: tensor(d).update(offset=-4096), "variants.fp32.tensors[0].offset"),
        (lambda d: tensor(d).update(offset=64), "variants.fp32.tensors[0]: ends at byte 4160 of fp32/weights.bin"),
        (lambda d: d["pipeline"]["stages"].append({"kind": "dense", "path": "parity/texts.json", "activation": "tanh"}),
         "pipeline.stages[1].in_features: missing"),
        (lambda d: d.update(variants=None), "variants: must be an object, not null"),
        (lambda d: d["pipeline"].update(stages=None), "pipeline.stages: must be a list, not null"),
        (lambda d: d.update(architecture=None), "architecture"),
        (lambda d: d["variants"].update(fp16=None), "variants.fp16"),
    ],
)  # fmt: skip
def test_what_types_cannot_say_is_said_with_its_place(
    data: dict[str, Any], change: Callable[[dict[str, Any]], None], says: str
) -> None:
    change(data)
    with pytest.raises(BundleFormatError, match=re.escape(says)):
        parse_manifest(json.dumps(data))


@pytest.fixture(scope="module")
def encoder_manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("encoder")
    write_bundle(root, {"format_version": 2, "encoder": make_spec()})
    data: dict[str, Any] = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    return data


def attention(encoder: dict[str, Any], block: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = encoder["blocks"][block]["attention"]
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.update(hidden_size=64), "encoder.hidden_size: must be 32, as in architecture"),
        (lambda e: e.update(vocab_size=2**31), "encoder.vocab_size: must be 1 to 2147483647"),
        (lambda e: e.update(max_tokens=None), "encoder.max_tokens: must be at most 64"),
        (lambda e: e.update(max_tokens=65), "encoder.max_tokens: must be at most 64"),
        (lambda e: e.update(max_tokens=63), "max_tokens: must be at most 63, the model's positions, not 64"),
        (lambda e: e.update(blocks=[]), "encoder.blocks: must not be empty where there is more than a table"),
        (lambda e: e.update(blocks=e["blocks"] * 3000), "encoder.blocks: must be at most 4096"),
        (lambda e: e.update(final_norm={"kind": "batch", "epsilon": 0}), "encoder.final_norm.kind: must be one of"),
        (lambda e: e.update(final_norm={"kind": ["rms"], "epsilon": 0}), "encoder.final_norm.kind: must be one of"),
        (lambda e: e.update(final_norm={"kind": "rms", "epsilon": -1e-6}), "encoder.final_norm.epsilon"),
        (lambda e: e.update(final_norm={"kind": "rms", "epsilon": 1e300 * 1e300}), "Infinity is no number"),
        (lambda e: e["embeddings"].update(size=0), "encoder.embeddings.size: must be 1 to"),
        (lambda e: e["embeddings"].update(num_positions=-1), "encoder.embeddings.num_positions: must be 0 to"),
        (lambda e: e["embeddings"].update(pad_position=64), "encoder.embeddings.pad_position: must be one of the 64"),
        (lambda e: e["embeddings"].update(pad_position=-1), "encoder.embeddings.pad_position"),
        (lambda e: e["embeddings"].update(pad_position=0), "encoder.max_tokens: must be at most 63"),
        (lambda e: e["embeddings"].update(scale=1e39), "encoder.embeddings.scale: must be a finite float32"),
        (lambda e: e["embeddings"].update(norm={"kind": "layer", "epsilon": 2}), "encoder.embeddings.norm.epsilon"),
        (lambda e: e["blocks"][1].update(weights=2), "encoder.blocks[1].weights: must be one of 2"),
        (lambda e: e["blocks"][1].update(weights=-1), "encoder.blocks[1].weights"),
        (lambda e: e["blocks"][0].update(attention_is_normed=False), "encoder.blocks[0].attention_is_normed"),
        (lambda e: attention(e).update(num_heads=0), "encoder.blocks[0].attention.num_heads: must be 1 to"),
        (lambda e: attention(e).update(num_kv_heads=3), "encoder.blocks[0].attention.num_kv_heads: must divide"),
        (lambda e: attention(e).update(head_size=2**31 - 1), "encoder.blocks[0].attention.head_size: must be 1 to"),
        (lambda e: attention(e).update(scale=-1e39), "encoder.blocks[0].attention.scale"),
        (lambda e: attention(e).update(window=-1), "encoder.blocks[0].attention.window: must be 0 to"),
        (lambda e: attention(e).update(rotary="../x"), "encoder.blocks[0].attention.rotary: must be a name"),
        (lambda e: attention(e).update(rotary=""), "encoder.blocks[0].attention.rotary: must be a name"),
        (lambda e: attention(e).update(rotary_interleaved=True), "encoder.blocks[0].attention.rotary_interleaved"),
        (lambda e: attention(e).update(head_norm={"kind": "rms", "epsilon": 5}), "attention.head_norm.epsilon"),
        (lambda e: attention(e, 1).update(num_heads=2, num_kv_heads=2), "attention.num_heads: must be that of"),
        (lambda e: (e["blocks"][1].update(weights=0), e["blocks"][1]["feed_forward"].update(size=1)),
         "encoder.blocks[1]: must have the shapes of the others with weights 0"),
        (lambda e: e["blocks"][0]["feed_forward"].update(size=0), "encoder.blocks[0].feed_forward.size: must be 1 to"),
        (lambda e: e["blocks"][0]["feed_forward"].update(activation="swish"), "feed_forward.activation: must be one"),
    ],
)  # fmt: skip
def test_an_encoder_that_cannot_be(
    encoder_manifest: dict[str, Any], change: Callable[[dict[str, Any]], None], says: str
) -> None:
    data = copy.deepcopy(encoder_manifest)
    parse_manifest(json.dumps(data))
    change(data["encoder"])
    with pytest.raises(BundleFormatError, match=re.escape(says)):
        parse_manifest(json.dumps(data))


@pytest.mark.parametrize(
    "path",
    [
        "..\\weights.bin", "a\\..\\b", "C:weights.bin", "C:/weights.bin", "//host/share/w", "\\\\host\\share\\w",
        "fp32/./weights.bin", "fp32//weights.bin", "fp32/", "./weights.bin", "nul", "fp32/CON.bin", "lpt1.txt", "a./b",
        "a /b", "fp32/w\x00.bin", "fp32/w\n.bin", "w?.bin", "w:stream", "COM¹", "CONIN$",
    ],
)  # fmt: skip
def test_paths_mean_one_file_on_every_system(data: dict[str, Any], path: str) -> None:
    data["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    with pytest.raises(BundleFormatError, match="must stay inside the bundle, by plain names"):
        parse_manifest(json.dumps(data))


def test_paths_differ_by_more_than_their_case(data: dict[str, Any]) -> None:
    data["files"].append({"path": "Tokenizer.json", "size": 1, "sha256": "0" * 64})
    with pytest.raises(BundleFormatError, match=r"'tokenizer.json': is 'Tokenizer.json' where upper and lower case"):
        parse_manifest(json.dumps(data))


def test_paths_differ_by_more_than_their_spelling_in_unicode(data: dict[str, Any]) -> None:
    data["files"] += [{"path": path, "size": 1, "sha256": "0" * 64} for path in ("\u00e9.bin", "e\u0301.bin")]
    with pytest.raises(BundleFormatError, match="one character's spellings"):
        parse_manifest(json.dumps(data))


def test_a_key_that_stands_twice_is_found_by_one_look_at_each() -> None:
    class Name(str):
        looks = 0

        def __eq__(self, other: object) -> bool:
            Name.looks += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    pairs = [(Name(f"k{i}"), 1) for i in range(1000)]
    with pytest.raises(SchemaError, match="'k999': stands twice"):
        _object([*pairs, (Name("k999"), 1)])
    assert Name.looks < 2 * len(pairs)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than 32 deep"),
        ('{"a": 1, "a": 2}', "'a': stands twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"format_version": "1"}', "format_version"),
    ],
)
def test_json_that_is_none_of_ours(text: str, says: str) -> None:
    with pytest.raises(BundleFormatError, match=re.escape(says)):
        parse_manifest(text)


def test_a_recipe_may_hold_anything_but_without_end(data: dict[str, Any]) -> None:
    data["variants"]["int8"]["recipe"] = {"a": [{"b": [1, None, "물"]}]}
    assert parse_manifest(json.dumps(data)).variants["int8"].recipe["a"][0]["b"][2] == "물"
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    data["variants"]["int8"]["recipe"] = {"a": deep}
    with pytest.raises(BundleFormatError, match="nested more than 32 deep"):
        parse_manifest(json.dumps(data))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the manifest, as keys from its top."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd=_ODD, pick=st.randoms(use_true_random=False))
def test_any_value_at_any_place_is_read_or_refused_by_us(encoder_manifest: dict[str, Any], odd: Any, pick: Any) -> None:
    data = copy.deepcopy(encoder_manifest)
    *way, last = pick.choice(places(data)[1:])
    holder = data
    for key in way:
        holder = holder[key]
    holder[last] = odd
    with contextlib.suppress(BundleFormatError):
        parse_manifest(json.dumps(data))


def test_a_manifest_of_the_exporter_is_read(tiny_bundle: Path) -> None:
    parse_manifest((tiny_bundle / "manifest.json").read_text(encoding="utf-8"))
